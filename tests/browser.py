"""Chromium without a window, driven through two pipes by its own protocol: real clicks and keys, no further package."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROGRAM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), "")
# The browser reads commands from 3 and writes answers to 4, whatever numbers the pipes have here.
START = 'exec "$@" 3<&"$COMMANDS" 4>&"$ANSWERS"'
WATCH = """
    window.moved = [];
    new PerformanceObserver(list => window.moved.push(...list.getEntries().map(
        entry => `${entry.value}: ${entry.sources.map(each => each.node?.outerHTML?.slice(0, 80)).join(", ")}`
    ))).observe({type: "layout-shift"});
"""
"""What has moved on its own since the page began, in `moved`."""
KEYS = {"Enter": (13, "\r"), "Escape": (27, ""), "Tab": (9, ""), " ": (32, " ")}


class Page:
    """One page, and whatever it complained about."""

    def __init__(self, commands: int, answers: int) -> None:
        self.complaints: list[str] = []
        self._commands, self._answers = os.fdopen(commands, "wb"), os.fdopen(answers, "rb")
        self._number, self._session, self._loaded = 0, "", False
        target = self._send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._send(f"{domain}.enable")
        self._send("Page.addScriptToEvaluateOnNewDocument", source=WATCH)

    def size(self, width: int, height: int, *, phone: bool = False) -> None:
        self._send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)

    def prefer(self, scheme: str) -> None:
        """What the system of the reader asks for: light or dark."""
        self._send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def open(self, url: str) -> None:
        """Go there and wait until it is loaded and its module has run to the end."""
        self._loaded = False
        self._send("Page.navigate", url=url)
        while not self._loaded:
            self._read()
        self.settle()

    def settle(self) -> None:
        """Wait until what has been asked for is drawn."""
        self.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def run(self, script: str) -> Any:
        """The value of a script, awaited."""
        done = self._send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def texts(self, selector: str) -> list[str]:
        """The texts of what is to be seen."""
        return self.run(
            f"[...document.querySelectorAll({json.dumps(selector)})]"
            ".filter(each => each.checkVisibility()).map(each => each.textContent)"
        )

    def click(self, selector: str) -> None:
        """Press and release in the middle of the first that fits, which must not be covered by anything."""
        box = self.run(
            f"""(() => {{
                const found = document.querySelector({json.dumps(selector)});
                found.scrollIntoView({{block: "center", inline: "center"}});
                const {{x, y, width, height}} = found.getBoundingClientRect();
                const middle = [x + width / 2, y + height / 2];
                const hit = document.elementFromPoint(...middle);
                if (!found.contains(hit)) throw new Error("covered by " + hit?.outerHTML.slice(0, 200));
                return middle;
            }})()"""
        )
        for kind in ("mousePressed", "mouseReleased"):
            self._send("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)
        self.settle()

    def press(self, key: str) -> None:
        code, text = KEYS[key]
        for kind in ("keyDown", "keyUp"):
            more = {"text": text} if text and kind == "keyDown" else {}
            self._send("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **more)
        self.settle()

    def write(self, text: str) -> None:
        self._send("Input.insertText", text=text)
        self.settle()

    def picture(self, file: Path, *, whole: bool = False) -> None:
        shot = self._send("Page.captureScreenshot", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(shot["data"]))

    def _send(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._commands.write(json.dumps(message).encode() + b"\0")
        self._commands.flush()
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer["error"]
                return answer["result"]

    def _read(self) -> dict[str, Any]:
        letters = bytearray()
        while (letter := self._answers.read(1)) != b"\0":
            assert letter, "the browser has gone"
            letters += letter
        message = json.loads(letters)
        event, said = message.get("method", ""), message.get("params", {})
        if event == "Page.loadEventFired":
            self._loaded = True
        elif event == "Runtime.exceptionThrown":
            self.complaints.append(said["exceptionDetails"]["exception"].get("description", "exception"))
        elif event == "Runtime.consoleAPICalled" and said["type"] in ("error", "warning", "assert"):
            self.complaints.append(str(said["args"]))
        elif event == "Log.entryAdded" and said["entry"]["level"] in ("error", "warning"):
            self.complaints.append(said["entry"]["text"])
        return message


@contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """A browser with a profile of its own and no network."""
    here_answers, answers = os.pipe()
    commands, here_commands = os.pipe()
    arguments = [PROGRAM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    arguments += ["--no-first-run", "--disable-background-networking", "--disable-component-update"]
    arguments += ["--remote-debugging-pipe", f"--user-data-dir={profile}", "--hide-scrollbars", "about:blank"]
    process = subprocess.Popen(
        ["bash", "-c", START, "chromium", *arguments],
        pass_fds=(commands, answers),
        env={**os.environ, "COMMANDS": str(commands), "ANSWERS": str(answers), "HOME": str(profile)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(commands)
    os.close(answers)
    page = Page(here_commands, here_answers)
    try:
        yield page
    finally:
        page._session = ""
        page._send("Browser.close")
        page._commands.close()
        page._answers.close()
        process.wait(30)
