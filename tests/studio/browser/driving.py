"""A studio in a process of its own, and a page in a real Chromium that a test drives by what it shows."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
PATIENCE = 120.0  # seconds for what takes a fraction of one: a busy machine must not fail a test
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required", "--hide-scrollbars",
    "--disable-dev-shm-usage", "--lang=en",
)  # fmt: skip


def needs_browser() -> None:
    """Skip the test where there is no Chromium."""
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("there is no Chromium: apt install chromium chromium-driver")
    pytest.importorskip("selenium", reason="selenium drives the browser: pip install -e '.[dev]'")


class Studio:
    """`longtake studio` on a folder. port 0: a free one, which a restart keeps."""

    def __init__(self, folder: Path, *flags: str):
        self.folder, self.flags, self.port = folder, flags, 0
        self.start()

    def start(self) -> None:
        """Start the process and wait for its address."""
        words = ["studio", "--no-browser", "--device", "cpu", "--output", str(self.folder), "--port", str(self.port)]
        self.log = self.folder.with_suffix(".log")
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "longtake", *words, *self.flags], stdout=log, stderr=log, env=environment
            )
        until(lambda: self.process.poll() is not None or "longtake studio: " in self.log.read_text())
        found = re.search(r"longtake studio: (http://[^\s]+:(\d+)/\S*)", self.log.read_text())
        assert found, self.log.read_text()
        self.url, self.port = found[1], int(found[2])

    def kill(self) -> None:
        """Kill the server as a crash would; its workers end by themselves."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """End the server as Ctrl-C does."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()

    def api(self, path: str, body: Any = None, method: str | None = None) -> Any:
        """Call a route of the API as a program does."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json"} if data else {}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())

    def videos(self) -> list[dict[str, Any]]:
        """Return all videos, the newest first."""
        return self.api("/v1/videos?limit=100")["data"]

    def ended(self, id: str) -> dict[str, Any]:
        """Wait until a video has ended, and return it."""
        until(lambda: self.api(f"/v1/videos/{id}")["state"] in ("completed", "failed"))
        return self.api(f"/v1/videos/{id}")


def until(condition: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """Wait until a condition holds, and return its value."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)
    return found


def segments(studio: Studio, id: str) -> list[str]:
    """Return the SHA-256 of every segment of a video."""
    return [
        hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted((studio.folder / id / "media").glob("s*.m4s"))
    ]


def browser(width: int = 1280, height: int = 860, light: bool = False) -> Any:
    """Return a Chromium that shows nothing, with an empty profile."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--window-size={width},{height}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    driver.set_script_timeout(120)
    return driver


class Page:
    """The page as a user sees it. Every wait is patient, and reads what is shown."""

    def __init__(self, driver: Any, studio: Studio):
        self.driver, self.studio = driver, studio
        self.mobile(1280, 860, False)
        self.scheme("dark")

    def open(self, fragment: str = "") -> Page:
        """Open the page anew, without what an earlier test left in it."""
        self.driver.get("about:blank")
        self.driver.get(self.studio.url)
        self.js("sessionStorage.clear(); localStorage.clear()")
        self.driver.get("about:blank")
        self.driver.get(self.studio.url + fragment)
        self.see("#composer .go:not([disabled])")
        self.driver.get_log("browser")
        return self

    def js(self, text: str, *given: Any) -> Any:
        """Run JavaScript."""
        return self.driver.execute_script(text, *given)

    def cdp(self, name: str, **values: Any) -> Any:
        """Send a command of the DevTools protocol."""
        return self.driver.execute_cdp_cmd(name, values)

    def mobile(self, width: int, height: int, mobile: bool = True) -> None:
        """Give the page another size."""
        self.cdp("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)

    def scheme(self, name: str) -> None:
        """Make the system light or dark."""
        self.cdp("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def all(self, css: str) -> list[Any]:
        """Return the elements that match."""
        return self.driver.find_elements("css selector", css)

    def see(self, css: str) -> Any:
        """Wait until an element is there, and return it."""
        return until(lambda: next((one for one in self.all(css)), None))

    def click(self, css: str) -> None:
        """Click what matches, once it can be clicked."""
        from selenium.common.exceptions import WebDriverException

        def clicked() -> bool:
            try:
                self.see(css).click()
                return True
            except WebDriverException:
                return False

        until(clicked)

    def text(self, css: str = "body") -> str:
        """Return what is written in an element; "" if there is none."""
        return self.js("return document.querySelector(arguments[0])?.innerText ?? ''", css)

    def reads(self, css: str, words: str) -> None:
        """Wait until an element shows some words."""
        until(lambda: words in self.text(css))

    def keys(self, *keys: str) -> None:
        """Press keys on what has the focus."""
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def chord(self, *keys: str) -> None:
        """Press keys together."""
        from selenium.webdriver import ActionChains

        chain = ActionChains(self.driver)
        for key in keys:
            chain = chain.key_down(key)
        for key in reversed(keys):
            chain = chain.key_up(key)
        chain.perform()

    def drag(self, css: str, dx: int) -> None:
        """Drag an element sideways."""
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).click_and_hold(self.see(css)).move_by_offset(dx, 0).release().perform()

    def drop(self, path: Path, css: str = "#stage") -> None:
        """Drop a file from the desktop on an element."""
        box = self.js(
            "const b = document.querySelector(arguments[0]).getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]",
            css,
        )
        data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.cdp("Input.dispatchDragEvent", type=kind, x=box[0], y=box[1], data=data)

    def scenes(self) -> list[tuple[str, str]]:
        """Return state and prompt of every scene on the timeline."""
        script = "return [...document.querySelectorAll('[data-scene]')].map((one) => [one.className, one.querySelector('b').textContent])"
        return [
            (next(s for s in ("made", "making", "fixed", "free") if s in kind.split()), text)
            for kind, text in self.js(script)
        ]

    def playing(self) -> float:
        """Wait until the video moves, and return its time."""
        script = "const v = document.querySelector('#viewer video'); return v && v.videoWidth && v.readyState > 1 ? v.currentTime : 0"
        first = until(lambda: self.js(script))
        return until(lambda: (now := self.js(script)) > first and now)

    def complaints(self) -> list[str]:
        """Return the errors in the console since the last call."""
        return [line["message"] for line in self.driver.get_log("browser") if line["level"] == "SEVERE"]

    def picture(self, name: str) -> None:
        """Keep a screenshot where LONGTAKE_SCREENSHOTS names a folder."""
        folder = os.environ.get("LONGTAKE_SCREENSHOTS")
        if folder:
            time.sleep(0.6)
            self.driver.save_screenshot(str(Path(folder) / f"{name}.png"))
