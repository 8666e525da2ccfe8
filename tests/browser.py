"""A headless Chromium by the DevTools protocol, over the pipe that it offers: no driver and no other package."""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SECONDS = 60
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_chromium() -> str | None:
    """Where a Chromium is; None where there is none."""
    return next((path for path in map(shutil.which, NAMES) if path is not None), None)


class Page:
    """A tab, and what happened in it.

    Attributes:
        requests: addresses that it asked for.
        complaints: errors and warnings of its console and exceptions of its scripts.
    """

    def __init__(self, reading: int, writing: int) -> None:
        self._reading, self._writing = reading, writing
        self._buffer, self._number, self._session = b"", 0, ""
        self.requests: list[str] = []
        self.complaints: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        """The result of a command; events that come before it are kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._writing, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self._keep(answer)

    def _receive(self) -> dict[str, Any]:
        end = time.monotonic() + SECONDS
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._reading], [], [], max(0.0, end - time.monotonic()))
            assert ready, "the browser does not answer"
            piece = os.read(self._reading, 2**20)
            assert piece, "the browser has ended"
            self._buffer += piece
        message, _, self._buffer = self._buffer.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer

    def _keep(self, event: dict[str, Any]) -> None:
        parameters = event.get("params", {})
        match event.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(parameters["request"]["url"])
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(parameters["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if parameters["type"] in ("error", "warning", "assert"):
                self.complaints.append(json.dumps(parameters["args"]))
            case "Log.entryAdded" if parameters["entry"]["level"] in ("error", "warning"):
                self.complaints.append(json.dumps(parameters["entry"]))

    def run(self, script: str) -> Any:
        """The value of an expression."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, script: str) -> None:
        """Until an expression is true."""
        end = time.monotonic() + SECONDS
        while not self.run(script):
            assert time.monotonic() < end, f"never true: {script}"
            time.sleep(0.02)

    def open(self, path: Path, there: str = "true") -> None:
        """A file of the disk, until its script has drawn it and ``there`` is true."""
        self.call("Page.navigate", url=path.as_uri())
        self.wait("document.documentElement?.dataset.ready === 'true'")
        self.wait(there)

    def resize(self, width: int, height: int, *, dark: bool = False) -> None:
        """The window's size in CSS pixels, and the colour scheme that the system asks for."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def point(self, selector: str) -> None:
        """Move the mouse to the first element of a selector."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", **self.middle(selector))

    def click(self, selector: str) -> None:
        place = self.middle(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **place)

    def press(self, key: str) -> None:
        """A key by its name in keyboard events."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    def middle(self, selector: str) -> dict[str, float]:
        """Where an element is, after it was brought into the window."""
        # A frame later, when what scrolling sets off has happened.
        place: dict[str, float] = self.run(
            f"(async () => {{ const found = document.querySelector({json.dumps(selector)});"
            "found.scrollIntoView({block: 'center'}); await new Promise(requestAnimationFrame);"
            "await new Promise(requestAnimationFrame); const box = found.getClientRects()[0];"
            "return {x: box.x + box.width / 2, y: box.y + box.height / 2}; })()"
        )
        return place

    def picture(self, path: Path) -> None:
        """What the window shows, as PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))


@contextmanager
def browsing(chromium: str, profile: Path) -> Iterator[Page]:
    """A tab of a browser that ends with the context."""
    (read_there, writing), (reading, write_there) = os.pipe(), os.pipe()
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
    command = [chromium, *options, "--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"]
    # The browser reads from descriptor 3 and writes to 4. Not sh: it may know descriptors of one digit only.
    shell = ["bash", "-c", f'exec 3<&{read_there} 4>&{write_there}; exec "$@"', "bash", *command]
    with open(profile.with_suffix(".log"), "wb") as log:
        process = subprocess.Popen(shell, pass_fds=(read_there, write_there), stdout=log, stderr=log)
    os.close(read_there)
    os.close(write_there)
    try:
        yield Page(reading, writing)
    finally:
        process.terminate()
        process.wait()
        os.close(reading)
        os.close(writing)
