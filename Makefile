# make demo             set up and run the forecaster on real or sample data
# make test             set up and run the tests that need no framework
# make test-frameworks  the same beside PyTorch, Keras and ONNX Runtime, live; and what pandas, scikit-learn and the like
#                       have to be there for
# make test-forecasting-libraries
#                       the recipes of docs/forecasting-recipes.md beside Darts, NeuralForecast and pytorch-forecasting,
#                       which take 1 GB beside PyTorch
# make test-distributed cylstm.distributed on Dask, Ray and Spark, each with two workers; Spark needs Java 17 or later
# make test-debian-13   make demo and make test in a root of Debian 13 (Python 3.13), as root: tests/debian/run.sh;
#                       test-debian-12 of that before, test-debian-testing of that after (Python 3.14, GCC 16)
# make test-arm64       the tests on emulated CPUs, see tests/emulation/run.sh: a Raspberry Pi's on 64 bits (Debian 13;
#                       make test-arm64-debian-12 that before),
# make test-armhf       on 32 bits,
# make test-armv6       the first Pi's (C tests only),
# make test-old-x86     and on x86 without AVX
# make test-reproducible
#                       builds the wheel of the last commit twice, in different folders: the same bytes, see .ci/reproducible
# make test-free-threaded
#                       the tests on CPython without GIL, which is built from Debian's source package; PYTHON=python3.14t
#                       takes one that is there: tests/free_threaded/run.sh
# make test-memory      each allocation that fails in each call, one after the other, and a thousand loads, predictions,
#                       streams and errors: ten minutes
# make test-c-threads   the C core's threads, our own and OpenMP's, under ThreadSanitizer (clang, libomp);
#                       make test-c-valgrind its tests under valgrind's memcheck: a quarter of an hour
# make test-load        a thousand streams for an hour of virtual time, threads and processes at once: some minutes
# make test-processes   fork, forkserver, spawn, pools, servers and pickles, with both kinds of threads and engines
# make test-neighbours  beside NumPy, SciPy, scikit-learn, PyTorch and TensorFlow, each four of the six imported in every
#                       order; all 720 orders, an hour, with CYLSTM_TEST_ORDERS=all
# make test-long        a million steps, ten million steps at once, the largest sizes, Ctrl-C at random moments
# make docs             these pages as a site, into build/site
# make mutants          plants faults in a copy, one at a time, and says which no test notices: hours; some of them with
#                       MUTANTS="forecasting kernels --jobs 2", see tests/mutants/run.py
# make coverage         the lines of C, Cython and Python that the tests run, and build/coverage/c.txt and python.txt with
#                       the others: tests/coverage/run.sh
# make bench            every table of bench/results and docs/performance.md, beside the other engines
# make csrc             the C library by itself; make test-c its tests; SANITIZE=address,undefined to check it
# make fuzz             changed files and arguments for every reader, RUNS=2000 of each; ATHERIS=1 guides them by coverage;
#                       make fuzz-c fuzz-differential networks in C under sanitizers (with clang), and random networks run
#                       in every way, for SECONDS=600; make fuzz-keras fuzz-torch random networks of these frameworks
#                       against their numbers; make fuzz-figures what has been done so far: tests/fuzz/__main__.py
# make lint             ruff, clang-format, which folder may import which (import-linter), mypy, pyright over a user's
#                       sample, and what runs on GitHub (its schemas, zizmor)

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?=
CSV ?=
MUTANTS ?=
SOURCES := $(shell find csrc cylstm -name '*.[ch]' -o -name '*.def' -o -name '*.pyx' -o -name '*.pxd') setup.py pyproject.toml

.PHONY: demo test test-frameworks test-forecasting-libraries test-c test-debian-12 test-debian-13 \
	test-debian-testing test-arm64 test-arm64-debian-12 test-armhf test-armv6 test-old-x86 bench docs \
	test-reproducible test-distributed test-free-threaded test-memory test-c-threads test-c-valgrind fuzz fuzz-c \
	fuzz-differential fuzz-keras fuzz-torch fuzz-figures test-load test-processes test-neighbours test-long mutants \
	coverage csrc lint format clean

demo: $(VENV)/examples
	$(BIN)/python examples/pollution/demo.py $(if $(CSV),--csv $(CSV))

test: $(VENV)/test
	$(BIN)/python -m pytest -m "not frameworks" $(PYTEST_ARGS)

test-frameworks: $(VENV)/frameworks
	KERAS_BACKEND=torch $(BIN)/python -m pytest -n 2 -m frameworks $(PYTEST_ARGS)
	$(BIN)/python -m pytest -n 2 -m "not frameworks" $$(grep -rl --include='test_*.py' 'importorskip(' tests)

test-forecasting-libraries: $(VENV)/forecasting-libraries
	$(BIN)/python -m pytest -m frameworks tests/forecasting/test_recipes.py tests/forecasting/test_recipes_live.py $(PYTEST_ARGS)

test-distributed: $(VENV)/distributed
	@command -v java >/dev/null || { echo "Spark needs Java: apt-get install default-jre-headless" >&2; exit 1; }
	$(BIN)/python -m pytest -o faulthandler_timeout=600 tests/distributed $(PYTEST_ARGS)

ENDURE = CYLSTM_TEST_WHOLE=1 $(BIN)/python -m pytest -o faulthandler_timeout=3600
test-load test-long: $(VENV)/test
	$(ENDURE) tests/endurance/$(subst -,_,$@).py $(PYTEST_ARGS)

test-processes: $(VENV)/frameworks
	$(ENDURE) tests/endurance/test_processes.py tests/endurance/test_pickles.py tests/engine/test_prefork.py $(PYTEST_ARGS)

test-neighbours: $(VENV)/frameworks
	$(BIN)/python -m pip install --quiet scipy
	$(BIN)/python -m pip install --quiet --only-binary :all: tensorflow-cpu || \
		echo "TensorFlow has no wheel for this Python: the orders are those of the others" >&2
	$(ENDURE) tests/endurance/test_neighbours.py tests/engine/test_beside_other_libraries.py $(PYTEST_ARGS)

test-debian-12 test-debian-13 test-debian-testing:
	PYTEST_ARGS="$(PYTEST_ARGS)" tests/debian/run.sh $(@:test-debian-%=%)

test-arm64 test-armhf test-armv6:
	PYTEST_ARGS="$(PYTEST_ARGS)" tests/emulation/run.sh $(@:test-%=%)

test-arm64-debian-12:
	DEBIAN=12 PYTEST_ARGS="$(PYTEST_ARGS)" tests/emulation/run.sh arm64

test-old-x86: $(VENV)/test
	PYTHON=$(BIN)/python PYTEST_ARGS="$(PYTEST_ARGS)" tests/emulation/run.sh old-x86

test-reproducible:
	.ci/reproducible

# PYTHON counts only where it is given
test-free-threaded:
	$(if $(filter-out file default undefined,$(origin PYTHON)),,PYTHON=) PYTEST_ARGS="$(PYTEST_ARGS)" tests/free_threaded/run.sh

test-memory: $(VENV)/test
	$(BIN)/python -W ignore -m tests.memory.failures
	$(BIN)/python -W ignore -m tests.memory.failures --of python
	$(BIN)/python -W ignore -m tests.memory.leaks

mutants: $(VENV)/frameworks
	$(BIN)/python -m pip install --quiet "cython>=3.0"
	$(BIN)/python tests/mutants/run.py $(MUTANTS)

coverage: $(VENV)/test
	$(BIN)/python -m pip install --quiet "coverage>=7.10" "gcovr>=8.3" "pytest-xdist>=3.5" "cython>=3.0" "setuptools>=77"
	PYTHON=$(abspath $(BIN))/python tests/coverage/run.sh $(PYTEST_ARGS)

bench: $(VENV)/peers
	$(BIN)/python bench/run_all.py

docs: $(VENV)/docs
	$(BIN)/python docs/generate.py --check
	rm -rf build/site
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -d build/site-trees -c docs . build/site

RUNS ?= 2000
SECONDS ?= 600
SEED ?= 1
FUZZ = $(BIN)/python -W ignore -m tests.fuzz
fuzz: $(VENV)/test
	$(if $(ATHERIS),$(BIN)/python -m pip install --quiet atheris)
	$(FUZZ) readers $(TARGETS) --runs $(RUNS) --seconds $(SECONDS) --seed $(SEED) $(if $(ATHERIS),--atheris)

fuzz-c fuzz-differential: $(VENV)/test
	$(FUZZ) $(@:fuzz-%=%) --seconds $(SECONDS) --seed $(SEED)

fuzz-keras fuzz-torch: $(VENV)/frameworks
	$(FUZZ) $(@:fuzz-%=%) --seconds $(SECONDS) --seed $(SEED)

fuzz-figures: $(VENV)/test
	$(FUZZ) figures

csrc:
	$(MAKE) -C csrc $(if $(BUILD),BUILD=$(BUILD)) $(if $(SANITIZE),SANITIZE=$(SANITIZE))

test-c:
	$(MAKE) -C csrc test $(foreach name,BUILD SANITIZE SIZE_LIMIT,$(if $($(name)),$(name)=$($(name))))

test-c-threads test-c-valgrind:
	$(MAKE) -C csrc $(@:test-c-%=test-under-%) $(if $(BUILD),BUILD=$(BUILD))

lint: $(VENV)/lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $$(find csrc tests -name '*.[ch]')
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python tests/type_checking/sample.py
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-issue-forms $(filter-out %/config.yml,$(wildcard .github/ISSUE_TEMPLATE/*.yml))
	$(BIN)/zizmor --offline --quiet .github

format: $(VENV)/lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $$(find csrc tests -name '*.[ch]')

# Each file below says that the environment holds the package with the extra of that name.

# One without pip, as Debian's Python makes where python3-venv is missing, would be taken for complete the next time.
$(BIN)/python:
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
	touch $@

# The extension is compiled again when a source changed.

$(VENV)/test: $(BIN)/python $(SOURCES)
	$(BIN)/python -m pip install --quiet --editable ".[test]"
	touch $@

$(VENV)/examples: $(BIN)/python $(SOURCES)
	$(BIN)/python -m pip install --quiet --editable ".[examples]"
	touch $@

$(VENV)/frameworks: $(BIN)/python $(SOURCES)
	$(BIN)/python -m pip install --quiet --editable ".[test,frameworks,service,dask]"
	touch $@

$(VENV)/forecasting-libraries: $(BIN)/python $(SOURCES)
	$(BIN)/python -m pip install --quiet --editable ".[test,frameworks,forecasting-libraries]"
	touch $@

$(VENV)/distributed: $(BIN)/python $(SOURCES)
	$(BIN)/python -m pip install --quiet --editable ".[test,dask,ray,spark]"
	touch $@

$(VENV)/peers: $(BIN)/python $(SOURCES)
	$(BIN)/python -m pip install --quiet --editable ".[test,frameworks,peers]"
	touch $@

$(VENV)/lint: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet $$($(BIN)/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['lint'])")
	touch $@

$(VENV)/docs: $(VENV)/test pyproject.toml
	$(BIN)/python -m pip install --quiet $$($(BIN)/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['docs'])")
	touch $@

clean:
	rm -rf build dist *.egg-info $(VENV) cylstm/engine/*.so
