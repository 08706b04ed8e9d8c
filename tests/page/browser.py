"""A headless Chromium, driven over a pipe by the DevTools protocol: one start for all tests, no library for it.

Source: https://chromedevtools.github.io/devtools-protocol (``--remote-debugging-pipe``: JSON ended by a zero byte, read
from file descriptor 3 and written to 4).
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

INSTALL = "apt-get install chromium"
_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
# Puts the pipes where the browser looks for them, and becomes the browser. First out of the way: one may be at 3 or 4.
_LAUNCH = """
import fcntl, os, sys
pipes = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3]]
for pipe, place in zip(pipes, (3, 4)):
    os.dup2(pipe, place)
os.execv(sys.argv[3], sys.argv[3:])
"""
_PATIENCE = 60  # seconds for one answer: machines that test are busy


def found() -> str | None:
    """Where the browser is, if there is one."""
    return next((path for name in _NAMES if (path := shutil.which(name))), None)


@contextlib.contextmanager
def started(profile: Path) -> Iterator[Browser]:
    """A browser that ends with the block."""
    path = found()
    assert path is not None
    read_there, write_here = os.pipe()
    read_here, write_there = os.pipe()
    flags = "--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run --remote-debugging-pipe"
    process = subprocess.Popen(
        [
            sys.executable,
            "-S",
            "-c",
            _LAUNCH,
            str(read_there),
            str(write_there),
            path,
            *flags.split(),
            f"--user-data-dir={profile}",
            "about:blank",
        ],
        pass_fds=(read_there, write_there),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(read_there)
    os.close(write_there)
    try:
        yield Browser(read_here, write_here)
    finally:
        os.close(write_here)  # which ends it
        os.close(read_here)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Refused(Exception):
    """The browser did not do what it was asked for."""


class Browser:
    """One tab of it, and everything that it complained of or asked for since the last page was opened."""

    def __init__(self, read: int, write: int) -> None:
        self._read, self._write, self._rest, self._last = read, write, b"", 0
        self._session = ""
        self.problems: list[str] = []
        self._asked: dict[str, str] = {}
        targets = self.call("Target.getTargets")["targetInfos"]
        target = next(info["targetId"] for info in targets if info["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    @property
    def requests(self) -> list[str]:
        """What was asked for over the network, or of the disk."""
        return [*self._asked.values()]

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol."""
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._last:
                if "error" in answer:
                    raise Refused(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer)

    def open(self, file: Path, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Open a page and wait until it is drawn."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.prefer(dark)
        self.call("Page.navigate", url="about:blank")
        self.problems, self._asked = [], {}
        self.call("Page.navigate", url=file.resolve().as_uri())
        self.until("document.readyState === 'complete' && location.protocol === 'file:'")
        self.settle()

    def prefer(self, dark: bool) -> None:
        """Say what the reader's system is set to."""
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", media="", features=features)

    def settle(self) -> None:
        """Wait for what is drawn in the next frames."""
        with contextlib.suppress(Refused):  # the page may read itself anew before they come
            self.value("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")

    def until(self, expression: str) -> None:
        """Wait until an expression holds."""
        end = time.monotonic() + _PATIENCE
        while not self._holds(expression):
            assert time.monotonic() < end, f"it never came true: {expression}"
            time.sleep(0.02)

    def value(self, expression: str) -> Any:
        """What an expression gives in the page."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, f"{expression}: {found['exceptionDetails']}"
        return found["result"].get("value")

    def each(self, selector: str, expression: str) -> list[Any]:
        """What an expression gives for each ``node`` that is found."""
        found = self.value(f"[...document.querySelectorAll({json.dumps(selector)})].map((node) => {expression})")
        assert isinstance(found, list)
        return found

    def one(self, selector: str, expression: str) -> Any:
        """What an expression gives for the first ``node`` that is found."""
        return self.each(selector, expression)[0]

    def count(self, selector: str) -> int:
        """How many elements there are."""
        return len(self.each(selector, "1"))

    def choose(self, selector: str, value: object) -> None:
        """Set a slider or a choice, as a reader does."""
        events = "for (const name of ['input', 'change']) node.dispatchEvent(new Event(name));"
        self.each(selector, f"{{ node.value = {json.dumps(value)}; {events} }}")
        self.settle()

    def middle(self, selector: str, across: float = 0.5, down: float = 0.5) -> tuple[float, float]:
        """Where an element is seen, after scrolling to it."""
        x, y, width, height = self.value(
            f"(() => {{ const node = document.querySelector({json.dumps(selector)});"
            " node.scrollIntoView({ block: 'center' }); const box = node.getBoundingClientRect();"
            " return [box.x, box.y, box.width, box.height]; })()"
        )
        self.settle()
        return x + across * width, y + down * height

    def mouse(self, kind: str, place: tuple[float, float], clicks: int = 1, shift: bool = False) -> None:
        """Press, move or let go of the mouse."""
        button = "none" if kind == "Moved" else "left"
        self.call(
            "Input.dispatchMouseEvent",
            type=f"mouse{kind}",
            x=place[0],
            y=place[1],
            button=button,
            buttons=int(kind == "Pressed"),
            clickCount=clicks,
            modifiers=8 * shift,
        )

    def click(self, selector: str, shift: bool = False) -> None:
        """Click on an element as a reader does."""
        self.click_at(self.middle(selector), shift)

    def click_at(self, place: tuple[float, float], shift: bool = False, clicks: int = 1) -> None:
        """Click on a place, once or twice."""
        self.mouse("Moved", place)
        for number in range(1, clicks + 1):
            self.mouse("Pressed", place, number, shift)
            self.mouse("Released", place, number, shift)
        self.settle()

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Drag from one place to another."""
        self.mouse("Moved", start)
        self.mouse("Pressed", start)
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=end[0], y=end[1], button="left", buttons=1)
        self.mouse("Released", end)
        self.settle()

    def press(self, key: str, shift: bool = False) -> None:
        """Press a key."""
        more = {"text": key} if len(key) == 1 else {}
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, modifiers=8 * shift, **(more if kind == "keyDown" else {})
            )
        self.settle()

    def picture(self, file: Path, whole: bool = False) -> Path:
        """Save what is seen."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(shot["data"]))
        return file

    def _holds(self, expression: str) -> bool:
        with contextlib.suppress(Refused):  # the page may go while it answers
            return bool(self.value(expression))
        return False

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            assert select.select([self._read], [], [], _PATIENCE)[0], "the browser does not answer"
            part = os.read(self._read, 1 << 20)
            assert part, "the browser has ended"
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer

    def _note(self, event: dict[str, Any]) -> None:
        method, values = event.get("method"), event.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(values["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" or method == "Log.entryAdded":
            self.problems.append(json.dumps(values.get("args") or values.get("entry")))
        elif method == "Network.requestWillBeSent" and not values["request"]["url"].startswith("data:"):
            self._asked[values["requestId"]] = values["request"]["url"][:200]
        elif method == "Network.loadingFailed" and values.get("blockedReason") == "csp":
            self._asked.pop(values["requestId"], None)  # never sent: the page's policy forbids it
