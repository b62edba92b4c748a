"""A headless Chromium, driven over its debugging pipe: what a page shows, says on its console and asks the network for.

The protocol is the one of Chrome's developer tools: JSON, each message followed by a zero byte.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

#: how long an answer may take, in seconds
PATIENCE = 60.0


def find_browser() -> str | None:
    """Debian's Chromium, or another of the same kind; ``CHROMIUM`` names one."""
    names = [os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome"]
    return next((found for name in names if name and (found := shutil.which(name))), None)


class Browser:
    """One page in a browser of its own.

    Attributes
    ----------
    messages : list of str
        What the console was told, errors of scripts and what the policy of the page forbade.
    """

    def __init__(self, program: str) -> None:
        self.messages: list[str] = []
        self._asked: dict[str, str] = {}
        self._home = tempfile.mkdtemp(prefix="cylstm-browser-")
        to_browser, self._out = os.pipe()
        self._in, from_browser = os.pipe()
        flags = (
            "--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run --disable-extensions "
            "--disable-background-networking --disable-component-update --hide-scrollbars --remote-debugging-pipe"
        )
        command = [program, *flags.split(), f"--user-data-dir={self._home}", "about:blank"]
        # the browser reads from 3 and writes to 4
        self._process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{to_browser} 4>&{from_browser}', "bash", *command],
            pass_fds=(to_browser, from_browser),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": self._home},
        )
        os.close(to_browser)
        os.close(from_browser)
        self._number = 0
        self._unread = b""
        self._session: str | None = None
        target = next(one for one in self.call("Target.getTargets")["targetInfos"] if one["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    @property
    def requests(self) -> list[str]:
        """The addresses that the page asked for, without what its policy forbade."""
        return list(self._asked.values())

    def call(self, method: str, **arguments: Any) -> dict[str, Any]:
        """A command of the protocol and its answer; events that come before it are kept."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": arguments}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result

    def _read(self) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._in], [], [], max(0.0, deadline - time.monotonic()))
            piece = os.read(self._in, 1 << 20) if ready else b""
            if not piece:
                raise RuntimeError("the browser does not answer")
            self._unread += piece
        text, _, self._unread = self._unread.partition(b"\0")
        found: dict[str, Any] = json.loads(text)
        self._note(found.get("method", ""), found.get("params", {}))
        self._last = found.get("method", "")
        return found

    def _note(self, method: str, event: dict[str, Any]) -> None:
        if method == "Runtime.consoleAPICalled":
            self.messages.append(f"{event['type']}: {[one.get('value') for one in event['args']]}")
        elif method == "Runtime.exceptionThrown":
            details = event["exceptionDetails"]
            self.messages.append(f"{details['text']} {details.get('exception', {}).get('description', '')}")
        elif method == "Log.entryAdded":
            self.messages.append(f"{event['entry']['level']}: {event['entry']['text']}")
        elif method == "Network.requestWillBeSent":
            self._asked[event["requestId"]] = event["request"]["url"]
        elif method == "Network.loadingFailed" and event.get("blockedReason") == "csp":
            self._asked.pop(event["requestId"], None)
        elif method == "Page.javascriptDialogOpening":
            self.messages.append(f"dialog: {event['message']}")
            self._number += 1
            message = {"id": self._number, "method": "Page.handleJavaScriptDialog", "params": {"accept": True}}
            os.write(self._out, json.dumps({**message, "sessionId": self._session}).encode() + b"\0")

    def open(self, path: Path, *, width: int = 1200, height: int = 900, scheme: str = "light") -> None:
        """Load a file and wait until it is drawn."""
        self.messages.clear()
        self._asked.clear()
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self._last = ""
        self.call("Page.navigate", url=path.resolve().as_uri())
        while self._last != "Page.loadEventFired":
            self._read()
        self.settle()

    def settle(self) -> None:
        """Wait until what was changed is drawn."""
        self.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        found = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(f"{script}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def press(self, key: str) -> None:
        """A key of the keyboard, as a user presses it."""
        codes = {"Tab": 9, "Enter": 13, "PageUp": 33, "PageDown": 34, "End": 35, "Home": 36}
        codes |= {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
        named = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key]}
        text = {"text": "\r"} if key == "Enter" else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", **named, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **named)

    def point(self, x: float, y: float) -> None:
        """The mouse over a place of the window."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def picture(self, path: Path) -> None:
        """The whole page as a PNG file."""
        found = self.call("Page.captureScreenshot", captureBeyondViewport=True, format="png")
        path.write_bytes(base64.b64decode(found["data"]))

    def close(self) -> None:
        """End the browser and remove what it wrote."""
        self._session = None
        with contextlib.suppress(RuntimeError, OSError):
            self.call("Browser.close")
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._out)
        os.close(self._in)
        shutil.rmtree(self._home, ignore_errors=True)
