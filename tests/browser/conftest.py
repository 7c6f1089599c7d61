"""A real Chromium, a real shop, and an app in which everything has happened: one of each for all tests of pages.

They live as long as this folder's tests run (that is what the package is for). Not for the session: Playwright keeps an
event loop running in this thread, which no other test could stand.
"""

from __future__ import annotations

import shutil
import socket
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from support.pages_server import TOKEN, Demo
from support.shop_server import Shop

if TYPE_CHECKING:
    from playwright._impl._api_structures import SetCookieParam

QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
expect.set_options(timeout=15_000)  # of a machine that does much besides


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="package")
def browser() -> Generator[Browser]:
    """Debian's Chromium, headless; the pages it shows come from this machine only."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=QUIET)
        yield launched
        launched.close()


@pytest.fixture(scope="package")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Generator[Shop]:
    """The seeded shop in a process of its own."""
    running = Shop(tmp_path_factory.mktemp("shop"), _free_port(), _free_port())
    running.pictures = 1  # which made-up visitors ask for
    running.start()
    yield running
    running.kill()


@pytest.fixture(scope="package")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Generator[Demo]:
    """The app of ``support.pages_app`` after some traffic."""
    made = Demo(tmp_path_factory.mktemp("demo"), _free_port(), _free_port())
    with made.process:
        made.traffic()
        yield made


@pytest.fixture(scope="package")
def cookies(browser: Browser, demo: Demo) -> list[SetCookieParam]:
    """Of somebody who has signed in as an operator, once for all tests, and waited until there was something to see."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{demo.ops}/")
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Sign in").last.click()
    expect(page.locator("main h1")).to_have_text("demo")
    for _ in range(200):
        if demo.failed():
            break
        page.wait_for_timeout(100)
    found: list[SetCookieParam] = [
        {"name": each["name"], "value": each["value"], "url": demo.ops} for each in context.cookies()
    ]
    context.close()
    return found


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


@pytest.fixture
def operator(page: Page, cookies: list[SetCookieParam]) -> Page:
    """A fresh page of somebody who may press every button."""
    page.context.add_cookies(cookies)
    return page


@pytest.fixture(scope="package")
def axe() -> str:
    """The script that finds what people with other senses cannot use."""
    return (Path(__file__).parent / "axe.min.js").read_text()
