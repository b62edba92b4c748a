"""The example of an encoder-decoder that is split and translates, without a framework."""

import sys

import pytest

from tests import ROOT

pytest.importorskip("h5py")


@pytest.fixture
def translate(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "examples" / "translation"))
    sys.modules.pop("translate", None)
    import translate

    return translate


def test_the_example_translates_numbers_in_words(translate, capsys):
    translate.main([])
    lines = capsys.readouterr().out.splitlines()
    assert "two hundred and sixty four -> 264" in lines
    assert int(lines[-1].split()[1]) >= 990
    assert not {"keras", "tensorflow", "torch"} & set(translate.__dict__)


def test_the_example_translates_what_it_is_given(translate, capsys):
    translate.main(["three", "hundred", "and", "forty", "two"])
    assert capsys.readouterr().out == "342\n"
