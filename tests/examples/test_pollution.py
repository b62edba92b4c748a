"""The example's committed weights and sample, and how its reader refuses a csv that is not the series."""

import re
import sys
from dataclasses import replace

import numpy as np
import pytest

import cylstm

from tests import ROOT
from tests.builders.networks import bits

FOLDER = ROOT / "examples" / "pollution"
SAMPLE = FOLDER / "sample_synthetic.csv"
KINDS = {"univariate": 1, "multivariate": 8}


@pytest.fixture
def example(monkeypatch):
    """The example's modules, importable."""
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in ("series", "synthetic", "recipe", "prune", "intervals", "explain", "forecaster", "demo"):
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
    committed = SAMPLE
    assert (tmp_path / "sample.csv").read_bytes() == committed.read_bytes()
    assert "synthetic" in committed.read_text().splitlines()[0].lower()


def test_a_csv_that_is_not_the_series_is_refused_by_line_and_column(example, tmp_path):
    series, _ = example
    lines = (SAMPLE).read_text().splitlines()
    path = tmp_path / "wrong.csv"
    for change, message in [
        (lambda lines: lines[:1] + ["a,b"] + lines[2:], "pm2.5"),
        (lambda lines: lines[:40] + [lines[40].replace(",", ",x", 7)] + lines[41:], "wrong.csv"),
        (lambda lines: lines[:60] + lines[61:], "wrong.csv"),
    ]:
        path.write_text("\n".join(change(list(lines))) + "\n")
        with pytest.raises(series.DataError, match=message):
            series.read_csv(path)


def test_the_demo_forecasts_with_the_file_that_it_wrote(example, capsys):
    series, _ = example
    import demo
    import forecaster

    found = series.read_csv(SAMPLE)
    demo.show_forecaster(found)
    text = capsys.readouterr().out
    before, first = forecaster.before_test_year(found, "multivariate")
    made = forecaster.make_forecaster("multivariate").calibrate(before, first, coverage=0.9)
    mean, low, high = made.forecast(forecaster.table_of(found, "multivariate"), interval=True)
    for lead in (1, 6, 12, 24):
        numbers = f"{mean[lead - 1]:.0f} ug/m3, 90% between {low[lead - 1]:.0f} and {high[lead - 1]:.0f}\n"
        assert re.search(rf" {lead} hours? +ahead +{re.escape(numbers)}", text)
    assert "hour by hour and from the whole history: the same bits" in text


@pytest.mark.usefixtures("example")
def test_the_demo_says_first_what_the_sample_cannot_show(monkeypatch, capsys, tmp_path):
    import demo

    monkeypatch.setattr(sys, "argv", ["demo.py", "--csv", str(SAMPLE), "--out", str(tmp_path / "x.png")])
    monkeypatch.setattr(demo, "forecast_all", lambda *given: (_ for _ in ()).throw(SystemExit("far enough")))
    with pytest.raises(SystemExit, match="far enough"):
        demo.main()
    text = capsys.readouterr().out
    cannot, shown = text.index("It cannot show how good"), text.index("A forecaster is one file")
    assert text.index("SYNTHETIC") < cannot < shown


def test_the_contributions_to_a_forecast_add_up_to_it_and_are_drawn(example, tmp_path, capsys):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    import explain

    given = ["--csv", str(SAMPLE), "--out", str(tmp_path), "--lead", "6", "--samples", "10"]
    explain.main(given)
    text = capsys.readouterr().out
    assert text.startswith("This is the bundled SYNTHETIC sample")
    (found,) = re.findall(r"What contributed .*? 6 hours ahead:\n\n +ug/m3\n(.*?)\n\n", text, re.DOTALL)
    *parts, change = (float(line.split()[-1]) for line in found.splitlines())
    assert len(parts) == 6 and abs(sum(parts) - change) < 0.31
    now, forecast = map(float, re.search(r"it is (\d+), and the forecast (\d+)\.", text).groups())
    assert abs(now + change - forecast) <= 1.1
    (features,) = re.findall(r"a series at its mean .*?:\n\n +ug/m3\n(.*?)\n\n", text, re.DOTALL)
    effects = [abs(float(line.split()[-1])) for line in features.splitlines()]
    assert len(effects) == 8 and effects == sorted(effects, reverse=True) and effects[0] > 0
    assert re.search(r"\n50% +16 +8,704 ", text)
    covered = [float(share) for share in re.findall(r" (\d+\.\d)% \[", text)]
    assert len(covered) == 12 and all(0 < share <= 100 for share in covered)
    names = {path.name for path in tmp_path.iterdir()}
    pictures = ["all_leads", "cells", "contributions", "forget_gate", "gates", "occlusion", "saturation"]
    assert names == {"report.html", *(f"{name}.png" for name in pictures)}
    assert all(str(tmp_path / name) in text for name in names)


def test_the_peak_that_is_explained_is_the_highest_of_the_test_year(example, tmp_path):
    series, _ = example
    import explain

    found = series.read_csv(SAMPLE)
    peak = explain.find_peak(found, 6)
    assert found.target[peak] == np.nanmax(found.target[found.years() == series.TEST_YEAR])
    with pytest.raises(SystemExit, match="expected 1 to 24, found 25"):
        explain.main(["--lead", "25", "--out", str(tmp_path)])


def test_the_table_of_pruned_networks_shows_what_is_left_of_them(example, monkeypatch):
    series, _ = example
    import prune

    monkeypatch.setattr(series.bootstrap_difference, "__defaults__", (168, 50, 0))
    lines = prune.prune_table(series.read_csv(SAMPLE), "univariate").splitlines()
    left = {line.split()[0]: line.split()[1:3] for line in lines if line.startswith(("none", "unused", "25%", "50%"))}
    assert left == {
        "none": ["32", "21,760"],
        "unused": ["32", "21,760"],
        "25%": ["24", "13,312"],
        "50%": ["16", "6,912"],
    }


@pytest.fixture(scope="module")
def sample_ahead():
    """Forecasts and spreads of the sample, with their module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        for name in ("series", "intervals"):
            sys.modules.pop(name, None)
        import intervals
        import series

    return intervals, intervals.forecast_with_spreads(series.read_csv(SAMPLE), "multivariate", (0.02, 0.2), 20)


def test_fitted_intervals_cover_nine_tenths_of_the_year_that_they_are_fitted_on(sample_ahead):
    intervals, found = sample_ahead
    assert [one.hours for one in found] == [1, 6, 24]
    for one in found:
        # the first step drops a state of zeros
        assert one.spreads[0.2][0] == 0 and np.isnan(one.fitted[:24]).all()
        assert 1500 < np.isfinite(one.fitted).sum() < 2000 and 900 < np.isfinite(one.counted).sum() <= 1008
        fitted = [intervals.residual_quantiles(one), intervals.quantiles_by_level(one)]
        fitted += [intervals.scaled_spread(one, rate) for rate in one.spreads]
        for interval in fitted:
            assert abs(intervals.counted(interval, one.forecast, one.fitted).coverage - 0.9) < 0.006
            assert (interval[0] >= 0).all() and (interval[1] >= interval[0]).all()
        plain = intervals.counted(fitted[0], one.forecast, one.counted)
        assert 0 < plain.of_highest < plain.coverage < 1 and plain.score > plain.width > 0


def test_an_interval_with_dropout_has_the_variance_of_samples_and_residuals(sample_ahead):
    intervals, found = sample_ahead
    for one in found:
        assert (one.spreads[0.2][30:] > one.spreads[0.02][30:]).mean() > 0.9
        residuals = (one.fitted - one.forecast)[~np.isnan(one.fitted)]
        for rate in (0.0, 0.2):
            low, high = intervals.spread_and_variance(one, rate)
            variance = np.mean(residuals**2) + (one.spreads[rate] ** 2 if rate else 0.0)
            np.testing.assert_allclose(high - one.forecast, 1.6448536 * np.sqrt(variance), rtol=1e-6)
            above = low > 0
            np.testing.assert_allclose((one.forecast - low)[above], (high - one.forecast)[above], rtol=1e-9)


def test_rates_of_dropout_are_chosen_on_the_validation_year(sample_ahead):
    intervals, found = sample_ahead
    rate, coverages = intervals.nearest_rate(found)
    assert list(coverages) == [0.0, 0.02, 0.2]
    apart = {one: np.mean([abs(share - 0.9) for share in coverages[one]]) for one in (0.02, 0.2)}
    assert rate == min(apart, key=apart.get)
    assert all(a <= b for a, b in zip(coverages[0.0], coverages[0.2], strict=True))
    # another test year changes no choice
    moved = [replace(one, counted=one.counted + 100.0) for one in found]
    assert intervals.nearest_rate(moved) == (rate, coverages)
    assert intervals.best_rate(moved) == intervals.best_rate(found)


def test_counting_an_interval_by_hand(sample_ahead):
    intervals, _ = sample_ahead
    truth = np.array([1.0, 5.0, np.nan, 9.0, 2.0])
    low, high = np.array([0.0, 6.0, 0.0, 3.0, 2.0]), np.array([2.0, 8.0, 9.0, 7.0, 3.0])
    found = intervals.counted((low, high), np.array([3.0, 1.0, 99.0, 8.0, 4.0]), truth)
    np.testing.assert_array_equal(found.covered, [1, 0, np.nan, 0, 1])
    assert found.coverage == 0.5 and found.of_highest == 0.0
    assert found.width == 2.25 and found.score == pytest.approx(2.25 + 20 * (1.0 + 2.0) / 4)


def test_the_table_of_intervals_is_the_same_with_the_same_seed(example):
    series, _ = example
    import intervals

    found = series.read_csv(SAMPLE)
    table = intervals.interval_table(found, "univariate", (0.05,), 8, seed=3)
    assert table == intervals.interval_table(found, "univariate", (0.05,), 8, seed=3)
    assert table != intervals.interval_table(found, "univariate", (0.05,), 8, seed=4)
    rows = table[table.index("ahead") :].splitlines()[1:]
    assert len(rows) == 12
    for row in rows:
        share, low, high = (float(text) for text in re.search(r"(\S+)% \[(\S+)%, (\S+)%\]", row).groups())
        assert 0 < low < share < high <= 100
        width, score = (float(text) for text in row.split()[-2:])
        assert 0 < width <= score


def test_a_series_without_one_of_the_years_has_no_intervals(example, tmp_path):
    series, _ = example
    import explain
    import intervals

    found = series.read_csv(SAMPLE)
    early = found.years() == 2013
    with pytest.raises(ValueError, match="expected measured hours of 2014, found none"):
        intervals.interval_table(series.Series(*(array[early] for array in vars(found).values())), "univariate")
    pytest.importorskip("matplotlib")
    lines = SAMPLE.read_text().splitlines()
    (tmp_path / "late.csv").write_text("\n".join([*lines[:2], *(line for line in lines if ",2014," in line)]))
    with pytest.raises(SystemExit, match="expected measured hours of 2013, found none"):
        explain.main(["--csv", str(tmp_path / "late.csv"), "--out", str(tmp_path)])


def test_the_bootstrap_of_a_mean_leaves_out_what_is_unknown_and_widens_with_dependence(example):
    series, _ = example
    rng = np.random.default_rng(5)
    alone = (rng.random(8_000) < 0.9).astype(float)
    alone[rng.random(8_000) < 0.1] = np.nan
    mean = np.nanmean(alone)
    low, high = series.bootstrap_mean(alone, draws=2_000)
    exact = np.sqrt(mean * (1 - mean) / np.isfinite(alone).sum())
    assert low < mean < high and high - low == pytest.approx(2 * 1.96 * exact, rel=0.25)
    long = np.repeat(rng.random(80) < 0.9, 100).astype(float)
    low, high = series.bootstrap_mean(long, draws=2_000)
    assert high - low > 4 * 2 * 1.96 * exact


@pytest.fixture
def quantize(example, monkeypatch):
    """The example's module `quantize`, with a bootstrap of few draws."""
    for name in ("quantize", "recipe"):
        sys.modules.pop(name, None)
    import quantize

    monkeypatch.setattr(quantize.bootstrap_difference, "__defaults__", (168, 50, 0))
    return quantize


def test_the_table_of_quantised_networks_has_each_type_for_scaled_and_raw_inputs(example, quantize):
    series, _ = example
    lines = quantize.quantize_table(series.read_csv(FOLDER / "sample_synthetic.csv"), "univariate").splitlines()
    assert len(lines) == 1 + 2 * (1 + len(quantize.TYPES) + len(quantize.BY_RULES))
    full = {line.split()[0]: line.split()[2:] for line in lines if "float32" in line.split()}
    assert full["scaled"] == full["raw"]


def test_the_network_for_raw_inputs_loses_with_int8_everywhere_and_not_by_the_rules(example, quantize, monkeypatch):
    series, _ = example
    # so that the rule about columns decides, not the one about small matrices
    monkeypatch.setattr("cylstm.quantization._SMALL", 0)
    committed = cylstm.load(FOLDER / "weights" / "multivariate.cylstm")
    scaling = series.Scaling.from_json(committed.metadata["scaling"])
    data = series.read_csv(FOLDER / "sample_synthetic.csv")
    plain = series.Scaling(scaling.features, scaling.bend, (0.0,) * 8, (1.0,) * 8, ())
    inputs = plain.scale(data.select("multivariate"))
    tensors = quantize.without_scaling(quantize.state_dict(committed), scaling)
    full, models = quantize.load(tensors), quantize.quantized(tensors)
    np.testing.assert_allclose(
        full.predict(inputs), committed.predict(scaling.scale(data.select("multivariate"))), atol=2e-4
    )
    errors = {name: full.compare(model, inputs).rms for name, model in models.items()}
    assert errors['quantize("int8")'] < 0.05 * min(errors["all int8a16"], errors["all int8a8"])
    types = {(part.layer, part.role): part.type for part in models['quantize("int8")'].quantization}
    assert sorted(types.values()) == ["float16", "int8a16", "int8a16"]
