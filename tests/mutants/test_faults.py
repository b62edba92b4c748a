"""The lists of planted faults fit the code, and the runner tells what is noticed from what is not.

All of them are run by `make mutants`, which takes hours.
"""

import shutil

import pytest

from . import run
from .run import ROOT, Checker, Fault, Outcome, keep, left_of, main, problems_of, read_faults, read_judged

if not list((ROOT / "cylstm" / "engine").glob("_engine*.so")) or not (ROOT / "csrc").is_dir():
    pytest.skip("needs the source tree with a built extension", allow_module_level=True)

SCALING = "cylstm/forecasting/scaling.py"
INVERSE = "tests/forecasting/test_scaling.py::test_the_inverse_of_a_scaling_gives_the_units_back"


def fault(old, new, *tests, file=SCALING, explained=""):
    return Fault("here", f"{old} becomes {new}", file, old, new, tests, explained)


def test_every_fault_stands_once_in_the_code_and_names_tests_that_are_there():
    assert problems_of(read_faults()) == []


def test_there_are_at_least_150_faults_in_all_parts_of_the_code():
    faults = read_faults()
    assert len(faults) >= 150
    assert sum(one.is_native for one in faults) >= 60
    assert sum(not one.is_native for one in faults) >= 90


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (fault("x", "y", INVERSE), "its text stands"),
        (fault("no such text", "y", INVERSE), "its text stands 0 times"),
        (fault("np.expm1", "np.expm1", INVERSE), "it changes nothing"),
        (fault("np.log1p, np.expm1", "np.log1p, np.exp"), "no tests are named"),
        (
            fault("np.log1p, np.expm1", "np.log1p, np.exp", "tests/test_nothing.py"),
            "there are no tests tests/test_nothing.py",
        ),
        (fault("np.log1p, np.expm1", "np.log1p, np.exp", "c:nothing"), "there are no tests c:nothing"),
        (
            fault("np.log1p, np.expm1", "np.log1p, np.exp", INVERSE, file="cylstm/nothing.py"),
            "there is no cylstm/nothing.py",
        ),
    ],
)
def test_an_entry_that_does_not_fit_is_said(wrong, message):
    (problem,) = problems_of([wrong])
    assert message in problem


def test_two_faults_of_one_name_are_said():
    one = fault("np.log1p, np.expm1", "np.log1p, np.exp", INVERSE)
    assert problems_of([one, one]) == [f"{one.name}: there are two of this name"]


def test_a_fault_is_caught_and_another_survives_and_both_are_taken_back(tmp_path):
    before = (ROOT / SCALING).read_bytes()
    checker = Checker(tmp_path)
    wrong_inverse = checker.check(fault("np.log1p, np.expm1", "np.log1p, np.exp", INVERSE))
    assert (
        wrong_inverse.kind == "caught" and "test_the_inverse_of_a_scaling_gives_the_units_back" in wrong_inverse.detail
    )
    # the tests that are named do not look at it
    unseen = fault("expected at most {_MOST_PARTS} scalers", "expected {_MOST_PARTS} scalers", INVERSE)
    assert checker.check(unseen).kind == "survived"
    assert checker.check(unseen._replace(explained="a message alone")).kind == "explained"
    # the copy is as it was, and nothing here has changed
    assert (tmp_path / "copy1" / SCALING).read_bytes() == before == (ROOT / SCALING).read_bytes()


def test_an_explained_fault_that_is_noticed_and_a_test_that_fails_anyway_are_errors_of_the_list(tmp_path):
    root = tmp_path / "root"
    for name in ("cylstm", "tests"):
        (root / name).mkdir(parents=True)
    (root / "cylstm" / "number.py").write_text("NUMBER = 4\n")
    (root / "tests" / "test_number.py").write_text("from cylstm.number import NUMBER\ndef test(): assert NUMBER == 4\n")
    (root / "tests" / "test_always.py").write_text("def test(): assert False\n")
    shutil.copy(ROOT / "pyproject.toml", root)
    checker = Checker(tmp_path / "work", root)
    seen = fault("4", "5", "tests/test_number.py", file="cylstm/number.py")
    assert checker.check(seen).kind == "caught"
    explained = checker.check(seen._replace(explained="nobody can tell"))
    assert (explained.kind, explained.detail[:24]) == ("wrong", "is explained, and noticed"[:24])
    always = checker.check(seen._replace(tests=("tests/test_always.py",)))
    assert always.kind == "wrong" and "fails without the fault too" in always.detail


def test_the_list_is_shown_by_area_and_name(capsys):
    assert main(["forecasting", "--name", "log1p", "--list"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line == "forecasting: the inverse of log1p is exp (cylstm/forecasting/scaling.py)"
    assert main(["--name", "no fault is called so"]) == 1
    with pytest.raises(SystemExit):
        main(["nothing"])


def test_at_least_150_faults_have_been_judged_and_what_is_kept_of_them_is_good():
    faults, judged = read_faults(), read_judged()
    assert sum(one.name in judged for one in faults) >= 150
    as_they_stand = [judged[one.name] for one in faults if one.name in judged and judged[one.name].sum == one.sum]
    assert [line for line in as_they_stand if line.kind not in run.GOOD] == []


def test_what_comes_of_a_fault_is_kept_until_its_entry_changes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "JUDGED", tmp_path / "judged.csv")
    first, second, third, *_ = faults = read_faults(["forecasting"])
    assert left_of(faults) == faults
    keep(Outcome(second, "caught", 2, 'by a ring: "FAILED", in words', 1.0))
    keep(Outcome(first, "survived", 0, "1 rings of tests", 1.0))
    keep(Outcome(third, "explained", 0, "why", 1.0))
    assert [line.name for line in read_judged().values()] == [first.name, second.name, third.name]
    assert read_judged()[second.name].detail == 'by a ring: "FAILED", in words'
    # the test that noticed is the first to be run again
    keep(Outcome(second, "caught", 1, f"by {second.tests[0]}: FAILED {second.tests[0]}::test_one[a - b]", 1.0))
    assert run.noticed_by(second) == [(1, f"{second.tests[0]}::test_one[a - b]")]
    assert run.noticed_by(first) == run.noticed_by(faults[4]) == []
    # one that survived is run again, and so is one that is another now
    assert left_of(faults) == [first, *faults[3:]]
    changed = second._replace(new="something else")
    assert left_of([changed, third]) == [changed]
    assert main(["--figures"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("forecasting")]
    assert line.split()[1:] == [str(len(faults)), "3", "1", "1", "0", "0", "0", "1", "1"]


def test_a_ring_of_c_ends_at_its_first_failure(tmp_path):
    workspace = run.Workspace(tmp_path / "copy")
    ended = workspace._call(["sh", "-c", "echo ok one; echo 'x.c:3: FAILED: a == b'; sleep 600"], until="FAILED")
    assert ended.returncode == 1 and ended.stdout.splitlines()[-1] == "x.c:3: FAILED: a == b"
    assert workspace._call(["sh", "-c", "echo fine"], until="FAILED").returncode == 0
