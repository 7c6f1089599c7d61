"""A real Chromium and a real shop for the tests of pages."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Generator

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from support.shop_server import Shop

QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def browser() -> Generator[Browser]:
    """Debian's Chromium, headless; the pages it shows come from this machine only.

    Not for the session: Playwright keeps an event loop running in this thread, which no other test could stand.
    """
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=QUIET)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Generator[Shop]:
    """The seeded shop in a process of its own."""
    running = Shop(tmp_path_factory.mktemp("shop"), _free_port(), _free_port())
    running.start()
    yield running
    running.kill()


@pytest.fixture
def page(browser: Browser) -> Generator[Page]:
    """A fresh page; the test fails when it logs an error or asks anybody but this machine for anything."""
    context = browser.new_context(viewport={"width": 1300, "height": 900})
    opened = context.new_page()
    wrong: list[str] = []
    opened.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on(
        "request",
        lambda request: None if request.url.startswith("http://127.0.0.1:") else wrong.append(request.url),
    )
    yield opened
    context.close()
    assert wrong == []
