"""Make the bundled sample: ``python synthetic.py`` writes `sample_synthetic.csv`, byte for byte the same each time.

The sample is SYNTHETIC. No number in it was measured; it has the columns of the real file and the rough
manners of a Beijing winter (a north-west wind cleans the air, calm days fill it), so that the demo runs
without a download. Forecast errors on it say nothing about forecasts of real air.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from series import COLUMNS, WIND

PATH = Path(__file__).resolve().parent / "sample_synthetic.csv"
FIRST_HOUR = datetime(2013, 10, 10)
HOURS = 3000
NOTE = "# SYNTHETIC sample made by synthetic.py (seed {seed}); nothing in it was measured"

# In the order of WIND (NW, NE, SE, cv): how often it blows on windy and on still days, where it drives
# log(PM2.5), how fast per hour, and its mean speed in m/s.
OFTEN = {"windy": (0.62, 0.14, 0.16, 0.08), "still": (0.08, 0.14, 0.42, 0.36)}
LEVEL = (2.9, 4.2, 5.3, 5.6)
PULL = (0.14, 0.05, 0.035, 0.03)
SPEED = (6.0, 3.0, 3.0, 0.9)


def rows(hours: int = HOURS, seed: int = 0) -> list[list[str]]:
    """The cells of ``hours`` rows in the order of `COLUMNS`; one seed gives one sample."""
    rng = np.random.default_rng(seed)
    names = list(WIND)
    weather, wind, log_pm = "still", 3, 4.5
    warmth = pressure = dryness = speed = snow = rain = 0.0
    wet = False
    made = []
    for number in range(hours):
        hour = FIRST_HOUR + timedelta(hours=number)
        if rng.random() < 1 / 60:
            weather = "windy" if weather == "still" else "still"
        if rng.random() < 0.25:
            chosen = int(rng.choice(4, p=OFTEN[weather]))
            speed = speed if chosen == wind else 0.0
            wind = chosen
        speed += rng.gamma(2.0, SPEED[wind] / 2.0)
        log_pm += PULL[wind] * (LEVEL[wind] - log_pm) + 0.16 * rng.standard_normal()
        warmth += -0.02 * warmth + 0.4 * rng.standard_normal()
        pressure += -0.02 * pressure + (0.12 if weather == "windy" else -0.12) + 0.5 * rng.standard_normal()
        season = math.cos(2 * math.pi * (hour.timetuple().tm_yday - 196) / 365.25)
        temperature = 12 + 14 * season + 4 * math.cos(2 * math.pi * (hour.hour - 15) / 24) + warmth
        dryness += 0.1 * ((20 if weather == "windy" else 8) - dryness) + rng.standard_normal()
        dew = temperature - max(dryness, 0.0)
        wet = rng.random() < (0.8 if wet else 0.012)
        snow = snow + 1 if wet and temperature < 1 else 0.0
        rain = rain + 1 if wet and temperature >= 1 else 0.0
        missing = rng.random() < 0.01
        values = (
            "NA" if missing else f"{min(math.exp(log_pm), 900):.0f}",
            str(round(dew)),
            str(round(temperature)),
            f"{1024 + pressure - 6 * season:.0f}",
            names[wind],
            f"{speed:.2f}",
            f"{snow:.0f}",
            f"{rain:.0f}",
        )
        made.append([str(part) for part in (number + 1, hour.year, hour.month, hour.day, hour.hour)] + list(values))
    return made


def write(path: Path = PATH, hours: int = HOURS, seed: int = 0) -> None:
    """Write the sample as csv, its first line saying that it is synthetic."""
    lines = [NOTE.format(seed=seed), ",".join(COLUMNS), *(",".join(row) for row in rows(hours, seed))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    write()
