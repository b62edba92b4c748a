"""The example that monitors machines: messages, rows that come and go, and the program at a real broker."""

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from queue import SimpleQueue

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cylstm

from tests import ROOT
from tests.builders.networks import bits
from tests.examples import environment, import_from

FOLDER = ROOT / "examples" / "machine"
WEIGHTS = FOLDER / "machine.cylstm"
MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
#: seconds after which a message that does not come is an error
PATIENCE = 60


@pytest.fixture
def health(monkeypatch):
    return import_from(monkeypatch, "machine", "health")[0]


@pytest.fixture
def messages(health):
    return sys.modules["messages"]


@pytest.fixture
def vibration(health):
    return sys.modules["vibration"]


@pytest.fixture(scope="module")
def model():
    return cylstm.load(WEIGHTS)


@pytest.fixture
def sent(messages, vibration):
    """Payloads by machine: 9 each of 5 machines."""
    machines = {f"m{number}": vibration.machine(number) for number in range(5)}
    return {
        name: [messages.encode(messages.Vibration(sequence, one.chunk())) for sequence in range(9)]
        for name, one in machines.items()
    }


class Answers:
    """What a monitor published, by machine."""

    def __init__(self):
        self.health, self.errors = {}, {}

    def add(self, topic, payload):
        _, machine, what = topic.split("/")
        content = json.loads(payload)
        if what == "health":
            self.health.setdefault(machine, []).append((content["sequence"], list(content["probabilities"].values())))
            assert content["state"] == list(content["probabilities"])[np.argmax(self.health[machine][-1][1])]
        else:
            self.errors.setdefault(machine, []).append(content["error"])


def alone(model, messages, payloads, form="json"):
    """What a stream of its own says to messages: their numbers, and probabilities."""
    stream, found = model.stream(), []
    for sequence, acceleration in (messages.decode(payload, form) for payload in payloads):
        found.append((sequence, stream.run(acceleration[:, np.newaxis])[-1]))
    return found


def assert_same(found, expected):
    """The same messages with the same bits."""
    assert [sequence for sequence, _ in found] == [sequence for sequence, _ in expected]
    published = np.array([probabilities for _, probabilities in found])
    # JSON holds the float32 numbers as they were
    np.testing.assert_array_equal(published, published.astype(np.float32))
    np.testing.assert_array_equal(bits(published.astype(np.float32)), bits([y for _, y in expected]))


def topic(machine, what="vibration"):
    return f"machines/{machine}/{what}"


def interleaved(sent, rounds):
    """Messages in rounds, machine by machine; later machines begin later."""
    return [
        (topic(name), payloads[n - late])
        for n in rounds
        for late, (name, payloads) in enumerate(sent.items())
        if 0 <= n - late < len(payloads)
    ]


def test_a_message_is_read_as_it_was_written(messages, vibration):
    chunk = vibration.Machine("bearing fault", 3).chunk()
    found = messages.decode(messages.encode(messages.Vibration(7, chunk)))
    assert found.sequence == 7
    np.testing.assert_array_equal(bits(found.acceleration), bits(chunk))


def test_bytes_are_read_as_they_were_written(messages, vibration):
    chunk = vibration.Machine("bearing fault", 3).chunk()
    payload = messages.encode(messages.Vibration(2**32 - 1, chunk), "float32")
    assert payload == b"\xff" * 4 + chunk.astype("<f4").tobytes()
    found = messages.decode(payload, "float32")
    assert found.sequence == 2**32 - 1
    np.testing.assert_array_equal(bits(found.acceleration), bits(chunk))
    steps = np.rint(chunk * 2048).astype("<i2")
    payload = messages.encode(messages.Vibration(258, chunk), "int16")
    assert payload == b"\x02\x01\x00\x00" + steps.tobytes()
    found = messages.decode(payload, "int16")
    assert found.sequence == 258 and found.acceleration.dtype == np.float32
    np.testing.assert_array_equal(found.acceleration, steps / np.float32(2048))
    loud = messages.Vibration(0, np.linspace(-40, 40, 256, dtype=np.float32))
    found = messages.decode(messages.encode(loud, "int16"), "int16").acceleration
    assert found[0] == -16 and found[-1] == 32767 / 2048


def test_machines_go_on_in_chunks_and_differ(vibration):
    for state in vibration.STATES:
        one, two = vibration.Machine(state, 5), vibration.Machine(state, 6)
        chunks = [one.chunk() for _ in range(3)]
        assert chunks[0].shape == (256,) and chunks[0].dtype == np.float32
        assert not np.array_equal(chunks[0], chunks[1]) and not np.array_equal(chunks[0], two.chunk())
    with pytest.raises(ValueError, match="expected one of normal, imbalance, bearing fault, found 'hot'"):
        vibration.Machine("hot", 1)


GOOD = {"sequence": 3, "acceleration": [0.0] * 256}
BAD = {
    "nan": (
        json.dumps(GOOD).replace("[0.0, 0.0", "[0.0, NaN"),
        r"acceleration\[1\]: .* found nan",
    ),
    "infinite": (json.dumps(GOOD).replace("0.0]", "1e999]"), r"acceleration\[255\]: expected a number of g, found inf"),
    "too large for float32": (json.dumps(GOOD).replace("0.0]", "1e39]"), r"acceleration\[255\]: .* found 1e\+39"),
    "short": (json.dumps(GOOD | {"acceleration": [0.0] * 255}), "a list of 256 numbers, found 255 of them"),
    "long": (json.dumps(GOOD | {"acceleration": [0.0] * 257}), "a list of 256 numbers, found 257 of them"),
    "no list": (json.dumps(GOOD | {"acceleration": 1.5}), "a list of 256 numbers, found float"),
    "text": (json.dumps(GOOD).replace("0.0]", '"0"]'), r"acceleration\[255\]"),
    "truth": (json.dumps(GOOD).replace("0.0]", "true]"), r"acceleration\[255\]"),
    "nested": (json.dumps(GOOD).replace("0.0]", "[1]]"), r"acceleration\[255\]"),
    "unknown field": (json.dumps(GOOD | {"unit": "g"}), "expected the fields .*, found .*'unit'"),
    "missing field": ('{"sequence": 3}', "expected the fields .*, found 'sequence'"),
    "negative": (json.dumps(GOOD | {"sequence": -1}), "sequence: expected a whole number from 0 on, found -1"),
    "broken number": (json.dumps(GOOD | {"sequence": 1.5}), "sequence: .* found 1.5"),
    "huge number": (json.dumps(GOOD | {"sequence": 2**63}), "sequence: .* found 9223372036854775808"),
    "no object": ("[1, 2]", "expected a JSON object, found list"),
    "no JSON": ("acceleration: 3", "expected JSON: Expecting value"),
    "no text": (b"\xff\xfe\xfd", "expected JSON"),
    "empty": ("", "expected JSON"),
    "deep": ("[" * 16_000, "expected JSON"),
    "many digits": (json.dumps(GOOD).replace("3", "3" * 5000), "expected JSON"),
    "long text": (" " * 20_000, "expected at most 16,384 bytes, found 20,000"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_message_is_refused_with_what_is_wrong(messages, case):
    payload, error = BAD[case]
    with pytest.raises(messages.BadMessage, match=error):
        messages.decode(payload if isinstance(payload, bytes) else payload.encode())


FLOATS, INTEGERS = b"\0" * 1028, b"\0" * 516
BAD_BYTES = {
    "a byte too few": (
        "float32",
        FLOATS[1:],
        "1,028 bytes, 4 of the sequence and 256 samples of 4, found 1,027",
    ),
    "a sample too many": ("int16", INTEGERS + b"\0\0", "expected 516 bytes, .* 256 samples of 2, found 518"),
    "floats as integers": ("int16", FLOATS, "expected 516 bytes, .*found 1,028"),
    "no bytes": ("float32", b"", "found 0"),
    "text": ("int16", json.dumps(GOOD).encode(), "expected 516 bytes"),
    "nan": ("float32", FLOATS[:8] + b"\0\0\xc0\x7f" + FLOATS[12:], r"acceleration\[1\]: .* found nan"),
    "infinite": ("float32", FLOATS[:-4] + b"\0\0\x80\xff", r"acceleration\[255\]: .* found -inf"),
    "too large": (
        "float32",
        FLOATS[:4] + np.float32(2e6).tobytes() + FLOATS[8:],
        r"acceleration\[0\]: .* found 2000000",
    ),
    "bytes as text": ("json", FLOATS, "expected JSON"),
    "unknown form": ("int24", INTEGERS, "or below it float32 or int16, found 'int24'"),
}


@pytest.mark.parametrize("case", BAD_BYTES)
def test_bad_bytes_are_refused_with_what_is_wrong(messages, case):
    form, payload, error = BAD_BYTES[case]
    with pytest.raises(messages.BadMessage, match=error):
        messages.decode(payload, form)


def test_machines_that_send_bytes_have_the_results_of_streams_of_their_own(health, messages, model, vibration):
    forms, answers = ("json", "float32", "int16"), Answers()
    machines = {form: vibration.machine(number) for number, form in enumerate(forms)}
    payloads = {
        form: [messages.encode(messages.Vibration(sequence, one.chunk()), form) for sequence in range(6)]
        for form, one in machines.items()
    }
    below = {"json": "vibration", "float32": "vibration/float32", "int16": "vibration/int16"}
    monitor = health.Monitor(model, answers.add)
    for sequence in range(6):
        # between good messages a bad one of each
        monitor.take((topic(form, below[form]), payloads[form][sequence]) for form in forms)
        monitor.take((topic(form, below[form]), payloads[form][sequence][:-1]) for form in forms)
        monitor.take([(topic("json", "vibration/int8"), b"")])
    for form in forms:
        assert_same(answers.health[form], alone(model, messages, payloads[form], form))
    assert (
        answers.errors["float32"] == [answers.errors["float32"][0]] * 6
        and "found 1,027" in answers.errors["float32"][0]
    )
    assert "found 515" in answers.errors["int16"][0] and "found 'int8'" in answers.errors["json"][1]


def test_any_bytes_are_a_message_or_refused(messages):
    @given(st.binary(max_size=60) | st.recursive(st.integers() | st.floats(), st.lists).map(json.dumps).map(str.encode))
    def refuse(payload):
        with pytest.raises(messages.BadMessage):
            messages.decode(payload)

    refuse()


def test_machines_that_come_and_go_have_the_results_of_streams_of_their_own(health, messages, model, sent):
    answers = Answers()
    monitor = health.Monitor(model, answers.add)
    # the second machine stops while the fifth is new, which takes its row; then the second comes back
    stopped = (topic("m1", "status"), b"stopped")
    monitor.take([*interleaved(sent, range(4)), stopped, *interleaved(sent, [4])])
    again = [(topic("m1"), payload) for payload in sent["m1"]]
    others = {name: payloads for name, payloads in sent.items() if name != "m1"}
    late = [(topic(name), payload) for name, payloads in others.items() for payload in payloads[5 - int(name[1:]) :]]
    monitor.take([*again[:4], *late, *again[4:]])
    for name, payloads in others.items():
        assert_same(answers.health[name], alone(model, messages, payloads))
    assert_same(answers.health["m1"][-9:], alone(model, messages, sent["m1"]))
    # the fourth message found the machine stopped
    assert_same(answers.health["m1"][:3], alone(model, messages, sent["m1"][:3]))
    assert_same(answers.health["m1"][3:4], alone(model, messages, sent["m1"][3:4]))
    assert answers.errors == {}


def test_messages_of_several_machines_are_answered_by_one_call(health, model, sent, monkeypatch):
    monitor = health.Monitor(model, lambda *_: None)
    advanced = []
    run = monitor._fleet.run
    monkeypatch.setattr(monitor._fleet, "run", lambda chunks: advanced.append(sorted(chunks)) or run(chunks))
    monitor.take(interleaved(sent, range(3)))
    assert advanced == [["m0"], ["m0", "m1"], ["m0", "m1", "m2"]]


def test_a_machine_of_which_messages_are_missing_starts_again_and_says_so(health, messages, model, sent):
    answers, one = Answers(), sent["m2"]
    monitor = health.Monitor(model, answers.add)
    monitor.take((topic("m2"), payload) for payload in [*one[:3], *one[5:7]])
    assert_same(answers.health["m2"], alone(model, messages, one[:3]) + alone(model, messages, one[5:7]))
    assert answers.errors == {"m2": ["messages 3 to 4 are missing: the machine starts again"]}


def test_a_message_that_comes_twice_counts_once_and_zero_starts_again(health, messages, model, sent):
    answers, one = Answers(), sent["m2"]
    monitor = health.Monitor(model, answers.add)
    monitor.take((topic("m2"), payload) for payload in [*one[:3], *one[1:4], one[3], *one[:2]])
    assert_same(answers.health["m2"], alone(model, messages, one[:4]) + alone(model, messages, one[:2]))
    assert answers.errors == {}


def test_more_machines_than_there_may_be_are_refused_until_one_stops(health, messages, model, sent):
    answers = Answers()
    monitor = health.Monitor(model, answers.add, most=3)
    first = [(topic(name), payloads[0]) for name, payloads in sent.items()]
    monitor.take(first)
    assert sorted(answers.health) == ["m0", "m1", "m2"]
    error = "there are 3 machines already, and no more can be monitored"
    assert answers.errors == {"m3": [error], "m4": [error]}
    monitor.take([(topic("m1", "status"), b"stopped"), (topic("m1", "status"), b"tired"), *first[3:4]])
    assert_same(answers.health["m3"], alone(model, messages, sent["m3"][:1]))
    assert answers.errors["m1"] == ["status: expected stopped, found b'tired'"]


def test_a_restored_monitor_goes_on_with_the_same_bits(health, messages, model, sent):
    answers = Answers()
    monitor = health.Monitor(model, answers.add)
    monitor.take([*interleaved(sent, range(6)), (topic("m1", "status"), b"stopped")])
    other = health.Monitor(model, answers.add)
    other.restore(monitor.state())
    left = {name: payloads[6 - int(name[1:]) :] for name, payloads in sent.items() if name != "m1"}
    other.take([(topic(name), payload) for name, payloads in left.items() for payload in payloads])
    for name in left:
        assert_same(answers.health[name], alone(model, messages, sent[name]))
    with pytest.raises(ValueError, match="expected at most 2 machines, found 4"):
        health.Monitor(model, answers.add, most=2).restore(monitor.state())
    empty = health.Monitor(model, answers.add)
    empty.restore(health.Monitor(model, answers.add).state())
    assert empty.state()["machines"].size == 0


def test_machines_that_it_was_not_trained_on_are_known_as_well_as_the_readme_says(health, model):
    import evaluate

    found = evaluate.confusion(model, 30, 3.0)
    assert found.sum() == 30 * (47 - 16)
    assert np.trace(found) > 0.97 * found.sum()


class Broker:
    """A mosquitto of its own, which can be stopped and started again."""

    def __init__(self, folder, *, keeps_sessions=True):
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port = found.getsockname()[1]
        self.settings = folder / "mosquitto.conf"
        # as root, it would write as another user, whom the folder is not open to
        lines = [f"listener {self.port} 127.0.0.1", "allow_anonymous true", "user root"]
        lines += [f"persistence {str(keeps_sessions).lower()}", f"persistence_location {folder}/"]
        self.settings.write_text("\n".join(lines) + "\n")
        self.start()

    def start(self):
        self.process = subprocess.Popen([MOSQUITTO, "-c", str(self.settings)], stderr=subprocess.DEVNULL)
        until = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except OSError:
                assert self.process.poll() is None and time.monotonic() < until
                time.sleep(0.02)

    def stop(self):
        self.process.terminate()
        self.process.wait(PATIENCE)


class Plant:
    """What stands beside the monitor at a broker: it sends messages, and collects the answers."""

    def __init__(self, broker):
        import paho.mqtt.client as mqtt

        self.answers, self._received, self._seen = Answers(), SimpleQueue(), set()
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="plant", clean_session=False)
        self.client.reconnect_delay_set(1, 1)
        self._subscribed = threading.Event()
        self.client.on_connect = lambda *_: self.client.subscribe([("machines/+/health", 1), ("machines/+/error", 1)])
        self.client.on_subscribe = lambda *_: self._subscribed.set()
        self.client.on_disconnect = lambda *_: self._subscribed.clear()
        self.client.on_message = lambda _, __, message: self._received.put(message)
        self.client.connect("127.0.0.1", broker.port)
        self.client.loop_start()
        self.connected()

    def connected(self):
        """Wait until the broker knows what is to be collected."""
        assert self._subscribed.wait(PATIENCE)

    def send(self, messages):
        for name, payload in messages:
            self.client.publish(name, payload, qos=1).wait_for_publish(PATIENCE)

    def collect(self, number):
        """Wait for so many answers: each once, though a broker may deliver one again after a lost connection."""
        while number:
            message = self._received.get(timeout=PATIENCE)
            if (answer := (message.topic, message.payload)) not in self._seen or message.topic.endswith("/error"):
                self.answers.add(*answer)
                number -= 1
            self._seen.add(answer)

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()
        while not self._received.empty():
            message = self._received.get()
            assert (message.topic, message.payload) in self._seen


class Program:
    """The monitor as a program of its own, whose lines are read as it prints them."""

    def __init__(self, request, broker, folder):
        arguments = ["--broker", f"127.0.0.1:{broker.port}", "--state", str(folder / "state.npz")]
        self.process = subprocess.Popen(
            [sys.executable, str(FOLDER / "monitor.py"), *arguments],
            env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self.lines, self._read = [], SimpleQueue()
        self._reader = threading.Thread(target=lambda: [self._read.put(line) for line in self.process.stdout])
        self._reader.start()
        request.addfinalizer(self.end)

    def prints(self, text):
        """Wait until it has printed a line with this text."""
        while True:
            self.lines.append(self._read.get(timeout=PATIENCE))
            if text in self.lines[-1]:
                return

    def end(self, number=signal.SIGTERM):
        """Its exit status, once it has ended after a signal."""
        self.process.send_signal(number)
        try:
            return self.process.wait(PATIENCE)
        finally:
            self.process.kill()
            self._reader.join()
            self.process.stdout.close()


@pytest.fixture
def at_broker(request, tmp_path):
    """Makes a broker, a monitor that is connected to it, and what stands beside that."""
    pytest.importorskip("paho.mqtt.client")
    if MOSQUITTO is None:
        pytest.skip("needs mosquitto (apt install mosquitto)")

    def make(**options):
        broker = Broker(tmp_path, **options)
        request.addfinalizer(broker.stop)
        program = Program(request, broker, tmp_path)
        program.prints("connected")
        plant = Plant(broker)
        request.addfinalizer(plant.client.loop_stop)
        return broker, program, plant

    return make


def test_every_machine_at_the_broker_has_the_results_of_a_stream_of_its_own(at_broker, messages, model, sent):
    _, program, plant = at_broker()
    plant.send(interleaved(sent, range(13)))
    plant.collect(5 * 9)
    assert plant.answers.errors == {} and sorted(plant.answers.health) == sorted(sent)
    for name, payloads in sent.items():
        assert_same(plant.answers.health[name], alone(model, messages, payloads))
    assert program.end() == 0
    plant.close()


def test_bad_messages_at_the_broker_are_answered_with_what_is_wrong_and_harm_no_machine(
    at_broker, messages, model, sent
):
    _, program, plant = at_broker()
    one = sent["m1"]
    for n, (payload, _) in enumerate(BAD.values()):
        plant.send([(topic("m1"), payload), (topic("m1"), one[n])] if n < len(one) else [(topic("m1"), payload)])
    plant.collect(len(BAD) + len(one))
    assert_same(plant.answers.health["m1"], alone(model, messages, one))
    errors = plant.answers.errors["m1"]
    assert len(errors) == len(BAD) and list(plant.answers.errors) == ["m1"]
    for error, (_, expected) in zip(errors, BAD.values()):
        assert re.search(expected, error)
    assert program.end() == 0
    plant.close()


def test_bytes_at_the_broker_are_answered_like_text(at_broker, messages, model, vibration):
    _, program, plant = at_broker()
    one = vibration.machine(2)
    payloads = [messages.encode(messages.Vibration(sequence, one.chunk()), "int16") for sequence in range(4)]
    for payload in payloads:
        plant.send([(topic("m1", "vibration/int16"), payload[:100]), (topic("m1", "vibration/int16"), payload)])
    plant.collect(2 * len(payloads))
    assert_same(plant.answers.health["m1"], alone(model, messages, payloads, "int16"))
    assert len(plant.answers.errors["m1"]) == len(payloads)
    assert all("expected 516 bytes" in error for error in plant.answers.errors["m1"])
    assert program.end() == 0
    plant.close()


@pytest.mark.parametrize("keeps_sessions", [True, False])
def test_the_monitor_goes_on_after_the_broker_was_restarted(at_broker, messages, model, sent, keeps_sessions):
    broker, program, plant = at_broker(keeps_sessions=keeps_sessions)
    plant.send((topic(name), payload) for name, payloads in sent.items() for payload in payloads[:4])
    plant.collect(5 * 4)
    broker.stop()
    program.prints("lost the broker")
    broker.start()
    program.prints("connected")
    plant.connected()
    plant.send((topic(name), payload) for name, payloads in sent.items() for payload in payloads[4:])
    plant.collect(5 * 5)
    assert plant.answers.errors == {}
    for name, payloads in sent.items():
        assert_same(plant.answers.health[name], alone(model, messages, payloads))
    assert program.end() == 0
    plant.close()


def test_the_monitor_goes_on_where_it_ended(request, at_broker, messages, model, sent, tmp_path):
    broker, program, plant = at_broker()
    plant.send((topic(name), payload) for name, payloads in sent.items() for payload in payloads[:4])
    plant.collect(5 * 4)
    assert program.end() == 0
    # the broker keeps these
    plant.send((topic(name), payload) for name, payloads in sent.items() for payload in payloads[4:6])
    second = Program(request, broker, tmp_path)
    second.prints("connected")
    plant.send((topic(name), payload) for name, payloads in sent.items() for payload in payloads[6:])
    plant.collect(5 * 5)
    assert plant.answers.errors == {}
    for name, payloads in sent.items():
        assert_same(plant.answers.health[name], alone(model, messages, payloads))
    assert second.end(signal.SIGINT) == 0
    plant.close()


@pytest.mark.parametrize("form", ["json", "int16"])
def test_the_simulator_publishes_what_the_monitor_finds_out(at_broker, vibration, form):
    broker, program, plant = at_broker()
    arguments = ["--broker", f"127.0.0.1:{broker.port}", "--machines", "3", "--seconds", "4", "--speed", "4"]
    arguments += ["--form", form]
    done = subprocess.run(
        [sys.executable, str(FOLDER / "simulate.py"), *arguments],
        env=environment(), capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.stdout.splitlines() == [f"m{n}: {state}" for n, state in enumerate(vibration.STATES)], done.stderr
    plant.collect(3 * 62)
    assert plant.answers.errors == {}
    for n in range(3):
        assert [sequence for sequence, _ in plant.answers.health[f"m{n}"]] == list(range(62))
        assert int(np.argmax(plant.answers.health[f"m{n}"][-1][1])) == n
    assert program.end() == 0
    plant.close()


def test_a_state_that_cannot_be_read_or_written_is_said(monkeypatch, tmp_path, capsys):
    pytest.importorskip("paho.mqtt.client")
    (monitor,) = import_from(monkeypatch, "machine", "monitor")
    path = tmp_path / "state.npz"
    service = monitor.Service(WEIGHTS, path, "127.0.0.1", 1, "test")
    service._restore()
    assert capsys.readouterr().out == ""
    service._save()
    service._restore()
    assert capsys.readouterr().out == ""
    whole = path.read_bytes()
    for data in (b"", b"state", whole[:-30], whole.replace(b"last.npy", b"past.npy")):
        path.write_bytes(data)
        service._restore()
        assert re.fullmatch(r"cannot go on from .*state\.npz: .+; all machines start again\n", capsys.readouterr().out)
    nowhere = monitor.Service(WEIGHTS, tmp_path / "no" / "state.npz", "127.0.0.1", 1, "test")
    nowhere._save()
    assert capsys.readouterr().out.startswith("cannot save the state: ")
    service._model = "another"
    service._save()
    monitor.Service(WEIGHTS, path, "127.0.0.1", 1, "test")._restore()
    assert "it is of another model" in capsys.readouterr().out


def test_a_simulator_without_a_broker_says_so(monkeypatch):
    pytest.importorskip("paho.mqtt.client")
    (simulate,) = import_from(monkeypatch, "machine", "simulate")
    with pytest.raises(SystemExit, match=r"no broker at 127\.0\.0\.1:1: "):
        simulate.main(["--broker", "127.0.0.1:1"])


@pytest.mark.frameworks
def test_the_script_trains_a_network_and_writes_what_monitors(monkeypatch, tmp_path, torch):
    (train,) = import_from(monkeypatch, "machine", "train")
    samples, states = train.examples(range(4), 3)
    assert samples.shape == (4, 768, 1) and states.tolist() == [0, 1, 2, 0]
    network = train.train(machines=5, epochs=2)
    train.save(network, tmp_path / "trained.cylstm")
    model = cylstm.load(tmp_path / "trained.cylstm")
    np.testing.assert_allclose(model.predict(samples.numpy()), network(samples).detach().numpy(), atol=1e-5)
