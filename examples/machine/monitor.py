"""Monitors the vibration of machines at an MQTT broker: ``python monitor.py --broker localhost``.

Needs paho-mqtt: ``pip install 'cylstm[examples]'``. Ctrl-C or SIGTERM ends it; the next one goes on where it ended.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import queue
import signal
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import paho.mqtt.client as mqtt
from health import Monitor

import cylstm

HERE = Path(__file__).resolve().parent
#: seconds between two savings of the state, while messages come
SAVE_EVERY = 5.0


class Service:
    """A monitor at a broker.

    A thread of the MQTT client receives messages and keeps the connection; `run` answers them. The broker hands over
    only a few messages before they are acknowledged, which happens when they have been answered: so few wait here, and
    none is lost if this program ends.

    Parameters
    ----------
    saved : Path
        Where the state is kept from one run of the program to the next.
    """

    def __init__(self, model: Path, saved: Path, host: str, port: int, client_id: str) -> None:
        self._monitor = Monitor(cylstm.load(model), self._publish)
        self._saved, self._model = saved, hashlib.sha256(model.read_bytes()).hexdigest()
        self._messages: queue.SimpleQueue[mqtt.MQTTMessage | None] = queue.SimpleQueue()
        self._last_answer: mqtt.MQTTMessageInfo | None = None
        #: what was printed of each machine
        self._states: dict[str, str] = {}
        # a session that outlives a connection: the broker keeps what comes in the meantime
        self._client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=False, manual_ack=True
        )
        self._client.max_queued_messages_set(10_000)
        self._client.reconnect_delay_set(min_delay=1, max_delay=30)
        self._client.on_connect = self._on_connect
        self._client.on_connect_fail = lambda *_: print(f"no broker at {host}:{port}; trying again", flush=True)
        self._client.on_subscribe = lambda *_: print("connected", flush=True)
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = lambda client, data, message: self._messages.put(message)
        self._client.connect_async(host, port)

    def run(self) -> None:
        """Answer messages until `stop` is called."""
        self._restore()
        self._client.loop_start()
        next_save = time.monotonic() + SAVE_EVERY
        is_saved = True
        while (messages := self._waiting()) is not None:
            if messages:
                self._monitor.take((message.topic, message.payload) for message in messages)
                for message in messages:
                    self._client.ack(message.mid, message.qos)
                is_saved = False
            if not is_saved and time.monotonic() > next_save:
                self._save()
                next_save, is_saved = time.monotonic() + SAVE_EVERY, True
        if self._last_answer is not None:
            with contextlib.suppress(RuntimeError):  # there is no broker now, so nobody to tell
                self._last_answer.wait_for_publish(5.0)
        self._client.disconnect()
        self._client.loop_stop()
        self._save()

    def stop(self) -> None:
        """End `run`, from any thread or the handler of a signal."""
        self._messages.put(None)

    def _waiting(self) -> list[mqtt.MQTTMessage] | None:
        """The messages that have come, which may be none; None when it is time to stop."""
        messages: list[mqtt.MQTTMessage] = []
        try:
            message = self._messages.get(timeout=1.0)
            while message is not None:
                messages.append(message)
                message = self._messages.get_nowait()
        except queue.Empty:
            return messages
        return None

    def _on_connect(self, client: mqtt.Client, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            print(f"the broker refuses the connection: {reason}", flush=True)
            return
        # each time, for a broker that has forgotten the session
        client.subscribe([(f"machines/+/{what}", 1) for what in ("vibration", "vibration/+", "status")])

    def _on_disconnect(self, client: mqtt.Client, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            print(f"lost the broker ({reason}); trying again", flush=True)

    def _publish(self, topic: str, payload: bytes) -> None:
        self._last_answer = self._client.publish(topic, payload, qos=1)
        _, machine, what = topic.split("/")
        content = json.loads(payload)
        if what == "error":
            print(f"{machine!r}: {content['error']}", flush=True)
        elif self._states.get(machine) != content["state"]:
            self._states[machine] = content["state"]
            print(f"{machine!r}: {content['state']}", flush=True)

    def _save(self) -> None:
        """Write the state, in the place of the last one once it is complete."""
        new = self._saved.with_name(self._saved.name + ".new")
        try:
            with new.open("wb") as file:
                np.savez(file, model=np.array(self._model), **self._monitor.state())
            os.replace(new, self._saved)
        except OSError as error:
            print(f"cannot save the state: {error}", flush=True)

    def _restore(self) -> None:
        """Go on from the state that was written, if there is one of this model."""
        try:
            with self._saved.open("rb") as file, np.load(file) as arrays:
                if str(arrays["model"]) != self._model:
                    raise ValueError("it is of another model")
                self._monitor.restore(arrays)
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, cylstm.CylstmError) as error:
            print(f"cannot go on from {self._saved}: {error}; all machines start again", flush=True)


def address(text: str) -> tuple[str, int]:
    """``host`` or ``host:port``."""
    host, _, port = text.partition(":")
    return host, int(port or 1883)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--broker", type=address, default="localhost", metavar="HOST[:PORT]")
    parser.add_argument("--state", type=Path, default=HERE / "state.npz", help="a file; default: %(default)s")
    parser.add_argument("--client-id", default="cylstm-monitor", help="of this monitor alone; default: %(default)s")
    options = parser.parse_args(arguments)
    service = Service(HERE / "machine.cylstm", options.state, *options.broker, options.client_id)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: service.stop())
    service.run()


if __name__ == "__main__":
    main()
