"""Synthetic sound with known events: tones, chirps, clicks and bursts of noise over a quiet background.

``python sounds.py --seconds 30 --real-time | python listen.py`` plays a recording into the listener as a microphone
would: raw samples of 16 bits at 16 kHz, one channel. What was played is printed on standard error.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import NamedTuple

import numpy as np

SAMPLE_RATE = 16_000
#: what the network tells apart, in the order of its outputs
KINDS = ("background", "tone", "chirp", "click", "noise")


class Event(NamedTuple):
    """A sound of one kind, from `begin` to `end` in seconds."""

    kind: str
    begin: float
    end: float


def recording(seconds: float, seed: int) -> tuple[np.ndarray, list[Event]]:
    """A recording and the events in it.

    Returns
    -------
    samples : ndarray of int16, (seconds * SAMPLE_RATE,)
    events : list of Event
        In the order of time; no two overlap.
    """
    rng = np.random.default_rng(seed)
    sound = _background(rng, round(seconds * SAMPLE_RATE))
    events, at = [], rng.uniform(0.3, 1.0)
    while True:
        kind = KINDS[rng.integers(1, len(KINDS))]
        samples = _fade(_MAKERS[kind](rng)) * _decibels(rng.uniform(-28, -8))
        first, last = round(at * SAMPLE_RATE), round(at * SAMPLE_RATE) + len(samples)
        if last > len(sound):
            break
        sound[first:last] += samples
        events.append(Event(kind, first / SAMPLE_RATE, last / SAMPLE_RATE))
        at = events[-1].end + rng.uniform(0.3, 1.0)
    return np.round(np.clip(sound, -1, 1) * 32767).astype(np.int16), events


def _decibels(level: float) -> float:
    """The amplitude that is so many decibels above 1."""
    return float(10 ** (level / 20))


def _seconds(rng: np.random.Generator) -> np.ndarray:
    """The times of the samples of an event of 0.2 to 0.8 seconds."""
    return np.arange(int(rng.uniform(0.2, 0.8) * SAMPLE_RATE)) / SAMPLE_RATE


def _fade(samples: np.ndarray) -> np.ndarray:
    """The same with a rise and a fall of 2 ms."""
    ramp = np.linspace(0, 1, SAMPLE_RATE // 500)
    samples[: len(ramp)] *= ramp
    samples[-len(ramp) :] *= ramp[::-1]
    return samples


def _background(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Hiss that is stronger at low frequencies, and the hum of the mains."""
    spectrum = np.fft.rfft(rng.normal(size=samples))
    spectrum /= np.sqrt(1 + np.arange(len(spectrum)) * SAMPLE_RATE / max(samples, 1) / 200)
    hum = np.sin(2 * np.pi * 50 * np.arange(samples) / SAMPLE_RATE + rng.uniform(0, 2 * np.pi))
    hiss = np.fft.irfft(spectrum, samples)
    return hiss * _decibels(rng.uniform(-80, -46)) + hum * _decibels(rng.uniform(-80, -46))


def _tone(rng: np.random.Generator) -> np.ndarray:
    """One pitch, with up to two overtones."""
    t, pitch = _seconds(rng), rng.uniform(200, 2500)
    overtones = rng.uniform(0, 0.5, rng.integers(0, 3))
    tone = sum(level * np.sin(2 * np.pi * pitch * (n + 2) * t) for n, level in enumerate(overtones))
    return (np.sin(2 * np.pi * pitch * t) + tone) / (1 + overtones.sum())


def _chirp(rng: np.random.Generator) -> np.ndarray:
    """A pitch that rises or falls by one to three octaves."""
    t = _seconds(rng)
    octaves = rng.uniform(1, 3)
    begin = rng.uniform(200, 6000 / 2**octaves)
    pitch = begin * 2 ** (octaves * t / t[-1])
    pitch = pitch[::-1] if rng.random() < 0.5 else pitch
    return np.sin(2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE)


def _click(rng: np.random.Generator) -> np.ndarray:
    """A knock that rings for a few milliseconds."""
    t = np.arange(SAMPLE_RATE // 40) / SAMPLE_RATE
    ringing = np.sin(2 * np.pi * rng.uniform(800, 4000) * t) + 0.5 * rng.normal(size=len(t))
    return ringing * np.exp(-t / rng.uniform(0.002, 0.005))


def _noise(rng: np.random.Generator) -> np.ndarray:
    """Noise of a band that is at least an octave wide."""
    samples = len(_seconds(rng))
    low = rng.uniform(100, 2500)
    high = rng.uniform(2 * low, 7500)
    frequencies = np.fft.rfftfreq(samples, 1 / SAMPLE_RATE)
    spectrum = np.fft.rfft(rng.normal(size=samples))
    spectrum[(frequencies < low) | (frequencies > high)] = 0
    noise = np.fft.irfft(spectrum, samples)
    return noise / np.abs(noise).max()


_MAKERS = {"tone": _tone, "chirp": _chirp, "click": _click, "noise": _noise}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--real-time", action="store_true", help="no faster than a microphone")
    options = parser.parse_args(arguments)
    samples, events = recording(options.seconds, options.seed)
    for event in events:
        print(f"{event.begin:7.2f} s to {event.end:7.2f} s  {event.kind}", file=sys.stderr)
    chunk = SAMPLE_RATE // 50
    start = time.monotonic()
    for first in range(0, len(samples), chunk):
        if options.real_time:
            time.sleep(max(0.0, start + (first + chunk) / SAMPLE_RATE - time.monotonic()))
        sys.stdout.buffer.write(samples[first : first + chunk].astype("<i2").tobytes())
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
