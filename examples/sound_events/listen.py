"""Hears sounds in a pipe of raw audio, in real time: samples of 16 bits at 16 kHz, one channel.

``arecord -q -t raw -f S16_LE -r 16000 -c 1 | python listen.py``, or without a microphone
``python sounds.py --real-time | python listen.py``.

One thread reads the pipe and cuts the sound into frames; the other one predicts. Between them is a short queue. When
prediction is late, frames are dropped and counted, so that events are never printed much later than they were heard.
"""

from __future__ import annotations

import argparse
import os
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from detector import Events, delay_of
from frames import Framer, log_mel
from sounds import Event

import cylstm


class Pipe(Protocol):
    """A binary file without a buffer, such as ``sys.stdin.buffer.raw``."""

    def read(self, size: int, /) -> bytes:
        """What has come, at most so many bytes; waits for the first one, and gives none at the end."""


class Frame(NamedTuple):
    """A frame of sound, its number, and the time at which its last sample had been read."""

    number: int
    samples: np.ndarray
    read_at: float


@dataclass
class Report:
    """What became of the frames of a pipe."""

    heard: int = 0
    dropped: int = 0
    ended_within_sample: bool = False
    #: why the pipe was not read to its end
    failure: Exception | None = None
    #: in seconds, from a frame's last sample to its probabilities, of the last minutes; none where the pipe waits
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=60_000))

    def __str__(self) -> str:
        text = f"{self.heard} frames heard, {self.dropped} dropped"
        if self.latencies:
            p50, p99 = np.percentile(self.latencies, [50, 99]) * 1000
            text += f"; latency of a frame {p50:.2f} ms p50, {p99:.2f} ms p99"
        if self.ended_within_sample:
            text += "; the pipe ended within a sample, whose first byte was left out"
        return text


def read_frames(pipe: Pipe, frames: queue.Queue[Frame | None], report: Report, may_drop: bool) -> None:
    """Fill the queue until the pipe ends, then put None."""
    framer, number = Framer(), 0
    try:
        while data := pipe.read(1 << 16):
            if number == 0 and data.startswith(b"RIFF"):
                raise ValueError("expected raw samples, found the header of a WAV file; arecord needs -t raw")
            for samples in framer.push(data):
                frame = Frame(number, samples, time.perf_counter())
                number += 1
                try:
                    frames.put(frame, block=not may_drop)
                except queue.Full:
                    report.dropped += 1
    except (OSError, ValueError) as error:
        report.failure = error
    finally:
        report.ended_within_sample = framer.ends_within_sample
        frames.put(None)


def listen(
    pipe: Pipe,
    model: cylstm.Model,
    on_event: Callable[[Event], object],
    *,
    on_frame: Callable[[int, np.ndarray], object] | None = None,
    may_drop: bool = True,
    waiting: int = 50,
) -> Report:
    """Hear what comes through a pipe, until it ends or Ctrl-C is pressed.

    Parameters
    ----------
    on_event
        Called with each event when it has ended.
    on_frame
        Called with the number of a frame and the probabilities that came with it.
    may_drop : bool
        Whether frames are dropped where prediction is late. Otherwise the pipe waits, as is right for a file.
    waiting : int
        How many frames may wait: 50 are half a second.
    """
    report = Report()
    frames: queue.Queue[Frame | None] = queue.Queue(waiting)
    threading.Thread(target=read_frames, args=(pipe, frames, report, may_drop), daemon=True).start()
    stream, events = model.stream(), Events(delay_of(model))
    try:
        while (frame := frames.get()) is not None:
            # None until the convolutions have seen as many frames as they reach over
            probabilities = stream.step(log_mel(frame.samples))
            report.heard += 1
            if may_drop:
                report.latencies.append(time.perf_counter() - frame.read_at)
            if probabilities is None:
                continue
            if on_frame is not None:
                on_frame(frame.number, probabilities)
            if event := events.push(frame.number, probabilities):
                on_event(event)
    except KeyboardInterrupt:
        pass
    if event := events.close():
        on_event(event)
    return report


def print_event(event: Event) -> None:
    """One line for an event, at once."""
    print(f"{event.begin:7.2f} s to {event.end:7.2f} s  {event.kind}", flush=True)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--file", action="store_true", help="the pipe is a file: hear all of it")
    options = parser.parse_args(arguments)
    if sys.stdin.isatty():
        parser.error("expected a pipe of raw audio: python sounds.py --real-time | python listen.py")
    model = cylstm.load(Path(__file__).with_name("sound_events.cylstm"))
    try:
        # without a buffer, whose lock a reading thread would hold when the program ends
        report = listen(sys.stdin.buffer.raw, model, print_event, may_drop=not options.file)
    except BrokenPipeError:  # who reads what is printed has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    print(report, file=sys.stderr)
    if report.failure is not None:
        raise SystemExit(f"cannot hear the pipe: {report.failure}")


if __name__ == "__main__":
    main()
