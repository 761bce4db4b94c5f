"""Render a page in headless Chromium as a phone or a desktop would; say if it scrolls sideways or asks for anything.

    python tools/shoot_report.py report.html --out phone.png --width 390 --height 844 --phone --at verdict speed stages
    python tools/shoot_report.py report.html --out report-dark.png --width 1280 --height 900 --dark --whole

Chromium's own --screenshot has windows of 500 pixels and wider, so this speaks its debugging protocol over a pipe,
where a width of 390 is one. Exit code 1 if the page, with all its details opened, is wider than the window, or made a
request.
"""

import argparse
import base64
import contextlib
import dataclasses
import io
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe")
TALLEST = 16_000  # pixels of a whole page in one picture
MARGIN, GAP = 24, 12  # pixels above a section, and between two pictures
OPEN_DETAILS = "document.querySelectorAll('details').forEach(one => { one.open = true })"


@dataclasses.dataclass(frozen=True)
class Window:
    width: int  # CSS pixels
    height: int
    phone: bool = False  # a viewport as phones have it
    dark: bool = False
    scale: float = 1.0  # device pixels per CSS pixel


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


def shoot(page: Path, window: Window, at: Sequence[str] = (), whole: bool = False) -> Shot:
    """Pictures of `page` side by side: from each section of `at` (the ids of the page) on, or from its top.

    `whole` goes on to the end of the page instead of the end of the window.
    """
    program = find_browser()
    if program is None:
        raise SystemExit(f"error: none of {', '.join(NAMES)} is installed")
    with open_browser(program) as browser:
        _load(browser, page, window)
        tops = [_top_of(browser, section) for section in at] or [0]
        screens = [_screen(browser, window, top, whole) for top in tops]
        browser.evaluate(OPEN_DETAILS)
        content = browser.evaluate("document.documentElement.scrollWidth")
        widest = browser.evaluate(_beyond(window.width))
        return Shot(_side_by_side(screens), content, widest, _requests(browser.events, page))


def _load(browser: Browser, page: Path, window: Window) -> None:
    browser.call("Page.enable")
    browser.call("Network.enable")
    browser.call(
        "Emulation.setDeviceMetricsOverride", width=window.width, height=window.height, mobile=window.phone,
        deviceScaleFactor=window.scale,
    )  # fmt: skip
    scheme = {"name": "prefers-color-scheme", "value": "dark" if window.dark else "light"}
    browser.call("Emulation.setEmulatedMedia", features=[scheme])
    browser.call("Page.navigate", url=page.resolve().as_uri())
    browser.wait_for("Page.loadEventFired")


def _top_of(browser: Browser, section: str) -> float:
    top = browser.evaluate(f"document.getElementById({json.dumps(section)})?.getBoundingClientRect().top")
    if top is None:
        known = browser.evaluate("[...document.querySelectorAll('[id]')].map(one => one.id).join(', ')")
        raise SystemExit(f'error: the page has no section "{section}"; it has {known}')
    return max(0, top - MARGIN)


def _screen(browser: Browser, window: Window, top: float, whole: bool) -> bytes:
    end = browser.call("Page.getLayoutMetrics")["cssContentSize"]["height"]
    height = min(end - top, TALLEST) if whole else window.height
    clip = {"x": 0, "y": top, "width": window.width, "height": height, "scale": 1}
    return base64.b64decode(
        browser.call("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)["data"]
    )


def _side_by_side(screens: list[bytes]) -> bytes:
    """One PNG, in a palette if that makes several small enough for a document."""
    from PIL import Image

    if len(screens) == 1:
        return screens[0]
    images = [Image.open(io.BytesIO(screen)).convert("RGB") for screen in screens]
    width = sum(image.width + GAP for image in images) - GAP
    joined = Image.new("RGB", (width, max(image.height for image in images)), "#9a9a9a")
    left = 0
    for image in images:
        joined.paste(image, (left, 0))
        left += image.width + GAP
    buffer = io.BytesIO()
    joined.quantize(256, Image.Quantize.MAXCOVERAGE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


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
    add = parser.add_argument
    add("page", type=Path)
    add("--out", type=Path, required=True, help="the PNG")
    add("--width", type=int, default=1280)
    add("--height", type=int, default=900)
    add("--scale", type=float, default=1.0, help="device pixels per CSS pixel")
    add("--phone", action="store_true", help="a viewport as phones have it")
    add("--dark", action="store_true", help="prefers-color-scheme: dark")
    add(
        "--at",
        nargs="+",
        default=(),
        metavar="ID",
        help="sections to begin at, side by side: verdict, speed, stages, ...",
    )
    add("--whole", action="store_true", help="to the end of the page")
    options = parser.parse_args(argv)
    if not options.page.is_file():
        parser.error(f'there is no page "{options.page}": write it with edgevl report')
    window = Window(options.width, options.height, options.phone, options.dark, options.scale)
    found = shoot(options.page, window, options.at, options.whole)
    options.out.write_bytes(found.png)
    print(f"{options.out}: {len(found.png) / 1000:.0f} kB, content {found.width} of {options.width} pixels wide")
    problems = [f"asked for {url}" for url in found.requests]
    if found.width > options.width:
        problems += [
            f"{found.width} pixels wide; beyond the window: {one}" for one in found.widest or ["nothing in main"]
        ]
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
