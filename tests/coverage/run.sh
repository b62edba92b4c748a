#!/usr/bin/env bash
# Counts the lines of C, Cython and Python that the tests run; in an environment with the package's tests:
#
#   run.sh [ARGUMENTS...]   ARGUMENTS are pytest's, "-n 2" if there are none; the tests of C always run
#
# build/coverage has what is built, in a copy of the files that git tracks, and what is found: c.txt and python.txt name
# the lines that did not run, c/index.html and python/index.html show them. A line of C counts as run if it ran in the
# kernels of any instruction set of this machine. The code is optimised as it ships; what the compiler drops does not
# count. A process that ends by os._exit or by a signal leaves no counts of C.
set -euo pipefail
cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-python3}
FOLDER=$PWD/build/coverage
TREE=$FOLDER/tree
# in the name of the compiler, because flags that are given to setup.py do not reach the probes of instruction sets;
# several threads count
export CC="gcc --coverage -fprofile-update=prefer-atomic"
step() { echo "== $* [${SECONDS}s]"; }

step "a copy that counts"
rm -rf "$FOLDER"
mkdir -p "$TREE"
git ls-files -z | tar --null --ignore-failed-read --files-from - -cf - | tar -xf - -C "$TREE"
cd "$TREE"
# processes that tests start find the copy too
export PYTHONPATH=$TREE
CYLSTM_SYMBOLS=1 "$PYTHON" setup.py --quiet build_ext --inplace

failed=0
step "the tests of C"
make -C csrc -j"$(nproc)" test CC="$CC" MOST_SECONDS=1200 >"$FOLDER/c.log" 2>&1 || { failed=1 && tail -20 "$FOLDER/c.log"; }

step "the tests of Python"
[ $# -gt 0 ] || set -- -n 2
coverage() { "$PYTHON" -m coverage "$1" --data-file="$FOLDER/python.data" "${@:2}"; }
# code that counts is slow, so a test that hangs is ended later; tests of memory would measure coverage.py's
MEASURES=(--ignore=tests/memory --ignore=tests/endurance/test_long.py)
coverage run -m pytest -q -m "not frameworks" "${MEASURES[@]}" -o faulthandler_timeout=1800 "$@" || failed=1

step "what ran"
coverage combine --quiet
coverage html --quiet --directory "$FOLDER/python"
coverage report --show-missing --skip-covered >"$FOLDER/python.txt"
# numbers of more than 2^32 are right here: the tests of functions try every float
count() {
    "$PYTHON" -m gcovr --root . --merge-lines --merge-mode-functions separate --gcov-suspicious-hits-threshold 0 "$@"
}
# Cython's functions begin with __, and its own code has no file
cython=(--include-internal-functions --gcov-ignore-errors source_not_found)
count "${cython[@]}" --filter csrc/ --filter cylstm/ --json "$FOLDER/package.json" build/temp*
count --filter csrc/ --gcov-object-directory csrc --json "$FOLDER/library.json" build/csrc/obj
both=(--add-tracefile "$FOLDER/package.json" --add-tracefile "$FOLDER/library.json")
mkdir "$FOLDER/c"
count "${both[@]}" --txt "$FOLDER/c.txt" --html-details "$FOLDER/c/index.html"
for folder in csrc cylstm; do
    echo "$folder, compiled:"
    count "${both[@]}" --filter $folder/ --txt-summary -
done
grep ^TOTAL "$FOLDER/python.txt"
step "the lines that did not run are in $FOLDER/c.txt and python.txt"
exit $failed
