"""Publishes the vibration of synthetic machines at an MQTT broker: ``python simulate.py --broker localhost``.

What each machine is like is printed; the monitor has to find out.
"""

from __future__ import annotations

import argparse
import time

import paho.mqtt.client as mqtt
from messages import FORMS, Vibration, encode
from monitor import address
from vibration import CHUNK, SAMPLE_RATE, machine


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--broker", type=address, default="localhost", metavar="HOST[:PORT]")
    parser.add_argument("--machines", type=int, default=6, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=10.0, help="default: %(default)s")
    parser.add_argument("--form", choices=FORMS, default="json", help="of the messages; default: %(default)s")
    parser.add_argument("--speed", type=float, default=1.0, help="times real time; default: %(default)s")
    options = parser.parse_args(arguments)
    machines = {f"m{number}": machine(number) for number in range(options.machines)}
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    try:
        client.connect(*options.broker)
    except OSError as error:
        raise SystemExit(f"no broker at {':'.join(map(str, options.broker))}: {error}") from None
    client.loop_start()
    for name, one in machines.items():
        print(f"{name}: {one.state}", flush=True)
    topic = "machines/{}/vibration" + ("" if options.form == "json" else f"/{options.form}")
    start = time.monotonic()
    for sequence in range(round(options.seconds * SAMPLE_RATE / CHUNK)):
        time.sleep(max(0.0, start + (sequence + 1) * CHUNK / SAMPLE_RATE / options.speed - time.monotonic()))
        for name, one in machines.items():
            client.publish(topic.format(name), encode(Vibration(sequence, one.chunk()), options.form), qos=1)
    ends = [client.publish(f"machines/{name}/status", "stopped", qos=1) for name in machines]
    try:
        for end in ends:
            end.wait_for_publish()
    except RuntimeError:
        raise SystemExit("lost the broker before all was sent") from None
    client.disconnect()
    client.loop_stop()


if __name__ == "__main__":
    main()
