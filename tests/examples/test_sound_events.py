"""The example that hears sounds in a pipe: its frames, its thread that reads, and what it finds in made recordings."""

import io
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

import cylstm

from tests import ROOT
from tests.builders.networks import bits
from tests.examples import environment, import_from

FOLDER = ROOT / "examples" / "sound_events"
WEIGHTS = FOLDER / "sound_events.cylstm"


@pytest.fixture
def listening(monkeypatch):
    return import_from(monkeypatch, "sound_events", "listen")[0]


@pytest.fixture
def frames(listening):
    return sys.modules["frames"]


@pytest.fixture
def sounds(listening):
    return sys.modules["sounds"]


@pytest.fixture(scope="module")
def model():
    return cylstm.load(WEIGHTS)


class Pieces:
    """A pipe whose reads give so many bytes, one after the other, over and over."""

    def __init__(self, data, sizes):
        self.data, self.sizes, self.reads = io.BytesIO(data), sizes, 0

    def read(self, size):
        self.reads += 1
        return self.data.read(min(size, self.sizes[self.reads % len(self.sizes)]))


def run(name, *arguments, **options):
    """A program of the example."""
    return subprocess.Popen([sys.executable, str(FOLDER / name), *arguments], env=environment(), **options)


@pytest.mark.parametrize("sizes", [(1, 3, 7), (319, 2, 801), (65536,)])
def test_sound_in_pieces_of_any_size_gives_the_frames_of_the_whole_recording(frames, sounds, sizes):
    samples, _ = sounds.recording(1.37, 5)
    pipe, framer, found = Pieces(samples.tobytes(), sizes), frames.Framer(), []
    while data := pipe.read(1 << 16):
        found += [frames.log_mel(frame) for frame in framer.push(data)]
    whole = frames.log_mels(samples)
    assert whole.shape == (1 + (len(samples) - 400) // 160, 32)
    np.testing.assert_array_equal(bits(found), bits(whole))


def test_a_frame_has_the_energy_of_its_tone_in_the_band_of_its_pitch(frames):
    t = np.arange(400) / 16_000
    tones = [np.round(8000 * np.sin(2 * np.pi * pitch * t)).astype(np.int16) for pitch in (300, 1000, 5000)]
    loudest = [int(frames.log_mel(tone).argmax()) for tone in tones]
    assert loudest[0] < loudest[1] < loudest[2]
    # ten times the amplitude is a hundred times the energy, of whose logarithm half is taken
    louder = frames.log_mel(tones[1]) - frames.log_mel(tones[1] // 10)
    assert louder[loudest[1]] == pytest.approx(1.0, abs=0.01)


def test_the_pipe_is_heard_as_the_whole_recording_is_predicted_bit_for_bit(listening, frames, sounds, model):
    import evaluate

    samples, played = sounds.recording(6, 3)
    heard, events = {}, []
    report = listening.listen(
        Pieces(samples.tobytes(), (333, 4096, 1)), model, events.append, on_frame=heard.__setitem__, may_drop=False
    )
    whole = model.predict(frames.log_mels(samples))
    assert list(heard) == list(range(4, 4 + len(whole)))
    np.testing.assert_array_equal(bits(list(heard.values())), bits(whole))
    assert events == evaluate.find_events(model, whole) and len(events) >= len(played) > 2
    assert (report.heard, report.dropped, report.ended_within_sample) == (4 + len(whole), 0, False)


def test_the_events_of_a_made_recording_are_found_where_they_were_played(listening, sounds, model):
    samples, played = sounds.recording(30, 15)
    found = []
    listening.listen(io.BytesIO(samples.tobytes()), model, found.append, may_drop=False)
    assert {event.kind for event in played} == set(sounds.KINDS[1:])
    assert [event.kind for event in found] == [event.kind for event in played]
    for one, other in zip(found, played):
        assert abs(one.begin - other.begin) < 0.04 and abs(one.end - other.end) < 0.1


def test_what_is_held_out_is_heard_as_well_as_the_readme_says(listening, model):
    import evaluate

    score = evaluate.Score()
    for seed in range(3):
        score.add(model, 20, seed)
    assert score.accuracy > 0.96 and score.right.sum() > 0.9 * max(score.played.sum(), score.heard.sum())
    assert score.frames.sum() == 3 * (1998 - 4)
    assert str(score).splitlines()[-1].split()[2:] == [str(x.sum()) for x in (score.played, score.heard, score.right)]


def test_a_sound_that_does_not_end_is_reported_in_parts(listening, model, rng):
    noise = rng.integers(-8000, 8000, 7 * 16_000).astype("<i2")
    found = []
    listening.listen(io.BytesIO(noise.tobytes()), model, found.append, may_drop=False)
    assert [event.kind for event in found] == ["noise"] * 3
    assert found[0].end - found[0].begin == pytest.approx(3.0)
    assert found[1].begin == pytest.approx(found[0].end) and found[2].end == pytest.approx(7.0, abs=0.1)


def test_silence_is_background(listening, model):
    found, heard = [], []
    pipe = io.BytesIO(bytes(2 * 16_000 * 3))
    listening.listen(pipe, model, found.append, on_frame=lambda _, y: heard.append(y), may_drop=False)
    assert found == [] and len(heard) == 298 - 4
    assert np.isfinite(heard).all() and min(y[0] for y in heard) > 0.5


def test_a_late_listener_drops_frames_and_counts_them(listening, sounds, model):
    samples, _ = sounds.recording(4, 2)
    has_ended = threading.Event()

    class Ending(Pieces):
        def read(self, size):
            data = super().read(size)
            if not data:
                has_ended.set()
            return data

    numbers = []

    def wait(number, _):
        # prediction is held up until all has been read
        assert has_ended.wait(60)
        numbers.append(number)

    report = listening.listen(Ending(samples.tobytes(), (640,)), model, print, on_frame=wait, waiting=20)
    frames = 1 + (len(samples) - 400) // 160
    assert report.heard + report.dropped == frames == 398 and report.dropped > 300
    assert len(report.latencies) == report.heard and numbers == sorted(numbers)
    assert f"{report.heard} frames heard, {report.dropped} dropped; latency of a frame" in str(report)


def test_what_is_heard_after_dropped_frames_has_the_time_at_which_it_was_played(listening, sounds, model):
    events = listening.Events(delay=2)
    sure = np.eye(5, dtype=np.float32)
    assert all(events.push(number, sure[0]) is None for number in (4, 5, 6))
    assert all(events.push(number, sure[2]) is None for number in (102, 103))
    event = events.push(110, sure[0])
    # the middle of frame 100 is at 100 * 10 ms + 12.5 ms
    assert event == ("chirp", pytest.approx(1.0075), pytest.approx(1.0275))


@pytest.mark.parametrize(
    ("length", "frames", "is_within"),
    [(0, 0, False), (1, 0, True), (799, 0, True), (800, 1, False), (801, 1, True), (1120, 2, False), (9601, 28, True)],
)
def test_a_pipe_that_closes_anywhere_ends_cleanly(listening, sounds, model, length, frames, is_within):
    data = sounds.recording(1, 4)[0].tobytes()[:length]
    report = listening.listen(Pieces(data, (77, 1)), model, print)
    assert (report.heard + report.dropped, report.ended_within_sample, report.failure) == (frames, is_within, None)
    assert ("ended within a sample" in str(report)) == is_within


def test_a_pipe_that_fails_ends_what_is_heard_and_says_why(listening, sounds, model):
    samples, played = sounds.recording(4, 3)

    class Failing(Pieces):
        def read(self, size):
            data = super().read(size)
            if not data:
                raise OSError("the microphone was pulled out")
            return data

    found = []
    report = listening.listen(Failing(samples.tobytes(), (640,)), model, found.append, may_drop=False)
    assert str(report.failure) == "the microphone was pulled out"
    assert len(found) == len(played) and report.heard == 398


def test_the_generator_plays_into_the_listener_and_its_events_are_printed(sounds):
    player = run("sounds.py", "--seconds", "5", "--seed", "3", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    listener = run("listen.py", "--file", stdin=player.stdout, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    player.stdout.close()
    out, err = (text.decode() for text in listener.communicate(timeout=100))
    played = player.stderr.read().decode().splitlines()
    player.stderr.close()
    assert (listener.returncode, player.wait(timeout=100)) == (0, 0)
    assert [line.split()[-1] for line in out.splitlines()] == [line.split()[-1] for line in played]
    assert err == "498 frames heard, 0 dropped\n"


def test_a_wav_file_is_refused_with_what_to_do():
    header = b"RIFF\x24\x00\x00\x00WAVEfmt "
    listener = run("listen.py", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = listener.communicate(header + bytes(4000), timeout=100)
    assert listener.returncode == 1 and out == b""
    assert b"expected raw samples, found the header of a WAV file; arecord needs -t raw" in err


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for one process there")
def test_ctrl_c_ends_with_what_was_heard(sounds):
    listener = run("listen.py", "--file", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    samples, _ = sounds.recording(5, 3)
    listener.stdin.write(samples.tobytes())
    listener.stdin.flush()
    # an event was printed: the program listens
    assert listener.stdout.readline()
    listener.send_signal(signal.SIGINT)
    # the pipe stays open until the program has ended
    assert listener.wait(timeout=100) == 0
    err = listener.stderr.read().decode()
    assert "frames heard" in err and "Traceback" not in err
    for pipe in (listener.stdin, listener.stdout, listener.stderr):
        pipe.close()


@pytest.mark.frameworks
def test_the_script_trains_a_network_and_writes_what_listens(monkeypatch, tmp_path, torch):
    (train,) = import_from(monkeypatch, "sound_events", "train")
    frames, kinds = train.examples(range(2))
    assert frames.shape == (2, 798, 32) and kinds.shape == (2, 794) and set(kinds.unique().tolist()) <= set(range(5))
    network = train.train(recordings=3, epochs=2)
    train.save(network, tmp_path / "trained.cylstm")
    model = cylstm.load(tmp_path / "trained.cylstm")
    assert model.stream().warm_up == train.SEEN - 1
    np.testing.assert_allclose(model.predict(frames.numpy()), network(frames).detach().numpy(), atol=1e-5)
