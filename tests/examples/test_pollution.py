"""The example's committed weights and sample, and how its reader refuses a csv that is not the series."""

import re
import sys

import numpy as np
import pytest

import cylstm

from tests import ROOT
from tests.builders.networks import bits

FOLDER = ROOT / "examples" / "pollution"
KINDS = {"univariate": 1, "multivariate": 8}


@pytest.fixture
def example(monkeypatch):
    """The example's modules, importable."""
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in ("series", "synthetic", "explain"):
        sys.modules.pop(name, None)
    import series
    import synthetic

    return series, synthetic


@pytest.mark.parametrize("kind", KINDS)
def test_the_native_files_hold_the_trained_weights_and_their_scaling(rng, example, kind):
    series, _ = example
    native = cylstm.load(FOLDER / "weights" / f"{kind}.cylstm")
    trained = cylstm.load(FOLDER / "weights" / f"{kind}.pt", layers=[cylstm.LSTM("lstm"), cylstm.Linear("fc")])
    x = rng.normal(size=(40, KINDS[kind])).astype(np.float32)
    np.testing.assert_array_equal(bits(native.predict(x)), bits(trained.predict(x)))
    stream = native.stream()
    np.testing.assert_array_equal(bits([stream.step(hour) for hour in x]), bits(native.predict(x)))
    assert native.metadata["unit"] == "ug/m3"
    assert native.metadata["scaling"] == (FOLDER / "weights" / f"{kind}.json").read_text()
    scaling = series.Scaling.from_json(native.metadata["scaling"])
    assert scaling.scale(np.ones((2, KINDS[kind]))).shape == (2, KINDS[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_the_keras_networks_load(rng, kind):
    pytest.importorskip("h5py")
    model = cylstm.load(FOLDER / "weights" / f"{kind}.keras")
    assert model.predict(rng.normal(size=(10, KINDS[kind]))).shape == (10, 24)


def test_the_sample_is_what_its_generator_makes(example, tmp_path):
    _, synthetic = example
    synthetic.write(tmp_path / "sample.csv")
    committed = FOLDER / "sample_synthetic.csv"
    assert (tmp_path / "sample.csv").read_bytes() == committed.read_bytes()
    assert "synthetic" in committed.read_text().splitlines()[0].lower()


def test_a_csv_that_is_not_the_series_is_refused_by_line_and_column(example, tmp_path):
    series, _ = example
    lines = (FOLDER / "sample_synthetic.csv").read_text().splitlines()
    path = tmp_path / "wrong.csv"
    for change, message in [
        (lambda lines: lines[:1] + ["a,b"] + lines[2:], "pm2.5"),
        (lambda lines: lines[:40] + [lines[40].replace(",", ",x", 7)] + lines[41:], "wrong.csv"),
        (lambda lines: lines[:60] + lines[61:], "wrong.csv"),
    ]:
        path.write_text("\n".join(change(list(lines))) + "\n")
        with pytest.raises(series.DataError, match=message):
            series.read_csv(path)


def test_the_contributions_to_a_forecast_add_up_to_it_and_are_drawn(example, tmp_path, capsys):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    import explain

    explain.main(["--csv", str(FOLDER / "sample_synthetic.csv"), "--out", str(tmp_path), "--lead", "6"])
    text = capsys.readouterr().out
    assert text.startswith("This is the bundled SYNTHETIC sample")
    (found,) = re.findall(r"What contributed .*? 6 hours ahead:\n\n +ug/m3\n(.*?)\n\n", text, re.DOTALL)
    *parts, change = (float(line.split()[-1]) for line in found.splitlines())
    assert len(parts) == 6 and abs(sum(parts) - change) < 0.31
    now, forecast = map(float, re.search(r"it is (\d+), and the forecast (\d+)\.", text).groups())
    assert abs(now + change - forecast) <= 1.1
    names = {path.name for path in tmp_path.iterdir()}
    pictures = ["all_leads", "cells", "contributions", "forget_gate", "gates", "occlusion", "saturation"]
    assert names == {"report.html", *(f"{name}.png" for name in pictures)}
    assert all(str(tmp_path / name) in text for name in names)


def test_the_peak_that_is_explained_is_the_highest_of_the_test_year(example, tmp_path):
    series, _ = example
    import explain

    found = series.read_csv(FOLDER / "sample_synthetic.csv")
    peak = explain.find_peak(found, 6)
    assert found.target[peak] == np.nanmax(found.target[found.years() == series.TEST_YEAR])
    with pytest.raises(SystemExit, match="expected 1 to 24, found 25"):
        explain.main(["--lead", "25", "--out", str(tmp_path)])


def test_the_table_of_pruned_networks_shows_what_is_left_of_them(example, monkeypatch):
    series, _ = example
    for name in ("prune", "demo", "recipe"):
        sys.modules.pop(name, None)
    import prune

    monkeypatch.setattr(series.bootstrap_difference, "__defaults__", (168, 50, 0))
    lines = prune.prune_table(series.read_csv(FOLDER / "sample_synthetic.csv"), "univariate").splitlines()
    left = {line.split()[0]: line.split()[1:3] for line in lines if line.startswith(("none", "unused", "25%", "50%"))}
    assert left == {
        "none": ["32", "21,760"],
        "unused": ["32", "21,760"],
        "25%": ["24", "13,312"],
        "50%": ["16", "6,912"],
    }
