"""Render a page in headless Chromium as a phone or a desktop would; say if it scrolls sideways or asks for anything.

    python tools/shoot_report.py report.html --out docs/images/report-phone.png --width 390 --height 844 --phone
    python tools/shoot_report.py report.html --out report-dark.png --width 1280 --height 900 --dark --whole

Chromium's own --screenshot has windows of 500 pixels and wider, so this speaks its debugging protocol over a pipe,
where a width of 390 is one. Exit code 1 if the page, with all its details opened, is wider than the window, or made a request.
"""

import argparse
import base64
import contextlib
import dataclasses
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe")
TALLEST = 16_000  # pixels of a whole page in one picture
OPEN_DETAILS = "document.querySelectorAll('details').forEach(one => { one.open = true })"


@dataclasses.dataclass(frozen=True)
class Shot:
    png: bytes
    width: int  # of the content, CSS pixels, all details opened: above that of the window the page scrolls sideways
    widest: list[str]  # elements that reach beyond the window
    requests: list[str]  # everything that was loaded but for the page itself and data URIs


class Browser:
    """One tab, driven by NUL-separated JSON on file descriptors 3 and 4 of the browser."""

    def __init__(self, commands: int, answers: int):
        self._commands, self._answers = commands, os.fdopen(answers, "rb", buffering=0)
        self._ids, self._rest, self.events = itertools.count(1), b"", list[dict[str, Any]]()
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._ids)
        message = {"id": number, "method": method, "params": params}
        if hasattr(self, "_session"):
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != number:
            self.events.append(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def wait_for(self, event: str) -> None:
        while not any(seen.get("method") == event for seen in self.events):
            self.events.append(self._read())

    def evaluate(self, expression: str) -> Any:
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            chunk = self._answers.read(1 << 20)
            if not chunk:
                raise RuntimeError("the browser ended")
            self._rest += chunk
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)


def find_browser() -> str | None:
    return next((found for name in NAMES if (found := shutil.which(name))), None)


@contextlib.contextmanager
def open_browser(program: str) -> Iterator[Browser]:
    ours_read, theirs_write = os.pipe()
    theirs_read, ours_write = os.pipe()

    def connect() -> None:
        # First out of the way of 3 and 4, which the pipes themselves may have as numbers.
        read, write = os.dup2(theirs_read, 100), os.dup2(theirs_write, 101)
        os.dup2(read, 3)
        os.dup2(write, 4)

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={profile}"], preexec_fn=connect, close_fds=False,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(theirs_read)
        os.close(theirs_write)
        try:
            yield Browser(ours_write, ours_read)
        finally:
            os.close(ours_write)
            process.terminate()
            process.wait(30)


def shoot(
    page: Path,
    width: int,
    height: int,
    phone: bool = False,
    dark: bool = False,
    whole: bool = False,
    scale: float = 1.0,
) -> Shot:
    """One picture of `page` in a window of `width` × `height` CSS pixels; `whole` goes on to its end."""
    program = find_browser()
    if program is None:
        raise SystemExit(f"error: none of {', '.join(NAMES)} is installed")
    with open_browser(program) as browser:
        browser.call("Page.enable")
        browser.call("Network.enable")
        window = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": phone}
        browser.call("Emulation.setDeviceMetricsOverride", **window)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        browser.call("Emulation.setEmulatedMedia", features=[scheme])
        browser.call("Page.navigate", url=page.resolve().as_uri())
        browser.wait_for("Page.loadEventFired")
        size = browser.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": width, "height": min(size["height"], TALLEST) if whole else height, "scale": 1}
        png = browser.call("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)["data"]
        browser.evaluate(OPEN_DETAILS)
        content = browser.evaluate("document.documentElement.scrollWidth")
        return Shot(base64.b64decode(png), content, browser.evaluate(_beyond(width)), _requests(browser.events, page))


def _beyond(width: int) -> str:
    """What sticks out of the window, the first few: where to look when a page is too wide."""
    elements = "[...document.querySelectorAll('main *')]"
    wide = f"{elements}.filter(one => one.getBoundingClientRect().right > {width} + 0.5)"
    return (
        f"{wide}.slice(0, 8).map(one => one.tagName + '.' + one.className + ': ' + one.textContent.trim().slice(0, 60))"
    )


def _requests(events: list[dict[str, Any]], page: Path) -> list[str]:
    asked = [
        event["params"]["request"]["url"] for event in events if event.get("method") == "Network.requestWillBeSent"
    ]
    return [url for url in asked if url != page.resolve().as_uri() and not url.startswith("data:")]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="the PNG")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=900)
    parser.add_argument("--scale", type=float, default=1.0, help="device pixels per CSS pixel")
    parser.add_argument("--phone", action="store_true", help="a viewport as phones have it")
    parser.add_argument("--dark", action="store_true", help="prefers-color-scheme: dark")
    parser.add_argument("--whole", action="store_true", help="to the end of the page")
    options = parser.parse_args(argv)
    if not options.page.is_file():
        parser.error(f'there is no page "{options.page}": write it with edgevl report')
    found = shoot(
        options.page, options.width, options.height, options.phone, options.dark, options.whole, options.scale
    )
    options.out.write_bytes(found.png)
    print(f"{options.out}: {len(found.png) / 1000:.0f} kB, content {found.width} of {options.width} pixels wide")
    problems = [f"asked for {url}" for url in found.requests]
    problems += [f"reaches beyond the window: {one}" for one in found.widest] if found.width > options.width else []
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if problems or found.width > options.width else 0


if __name__ == "__main__":
    sys.exit(main())
