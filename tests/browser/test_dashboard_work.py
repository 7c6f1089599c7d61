"""The dashboard's pages of work, data and control in a real Chromium: everything is looked at and pressed."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Page, expect

from support.process import Process

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

ROOT = Path(__file__).parents[2]
AXE = (ROOT / "tests/browser/axe.min.js").read_text()
PATHS = ("/jobs", "/jobs/1", "/schedules", "/events", "/cache", "/database", "/policies", "/mailbox", "/settings", "/logs", "/profiler")  # fmt: skip


class Demo:
    """The running app: its API and its dashboard."""

    def __init__(self, url: str, ops: str) -> None:
        self.url, self.ops = url, ops

    def traffic(self) -> None:
        """What gives the pages something to show."""
        with httpx2.Client(base_url=self.url, timeout=20) as client:
            for n in range(40):
                client.get(f"/shelves/A-{n % 3 if n % 4 else n}")
            for n in range(12):
                client.get("/weights", params={"shelf": f"A-{n}"})
            client.get("/fail")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Generator[Demo]:
    port, ops_port = _free_port(), _free_port()
    made = Demo(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{ops_port}")
    command = ["run", "support.pages_app:app", "--port", str(port), "--ops-port", str(ops_port)]
    command += ["--data", str(tmp_path_factory.mktemp("demo"))]
    path = os.pathsep.join(str(ROOT / each) for each in ("tests", "src"))
    process = Process(
        [sys.executable, "-m", "tenfold", *command],
        cwd=ROOT / "tests",
        env={
            "PYTHONPATH": path,
            "TENFOLD_LOG_LEVEL": "info",
        },
        ready=f"{made.ops}/health/ready",
    )
    with process:
        process.wait_ready()
        made.traffic()
        yield made


def look(page: Page, demo: Demo, path: str) -> Page:
    page.goto(demo.ops + path)
    expect(page.locator("main h1")).to_be_visible()
    return page


def press(page: Page, name: str, within: str = "main", *, confirm: bool = False) -> None:
    """A button that does something; what it says is shown as a message."""
    if confirm:
        page.once("dialog", lambda dialog: dialog.accept())
    page.locator(within).get_by_role("button", name=name, exact=True).first.click()


def said(page: Page, words: str) -> None:
    expect(page.locator("#said")).to_contain_text(words)


@pytest.mark.parametrize("path", PATHS)
def test_a_page_is_usable_by_everybody_on_every_screen_and_small(page: Page, demo: Demo, path: str) -> None:
    """No error in the console (the fixture says so), no serious finding of axe, colours in the dark included, under
    300 kB, and on a narrow screen nothing that scrolls sideways."""
    answer = page.goto(demo.ops + path)
    assert answer is not None
    assert answer.status == 200
    assert len(answer.body()) < 300_000
    expect(page.get_by_text("The planner is asked")).to_have_count(0)
    page.evaluate(AXE)
    assert _serious(page, "{resultTypes: ['violations']}") == []
    page.emulate_media(color_scheme="dark")
    assert _serious(page, "{runOnly: ['color-contrast']}") == []
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 1


def _serious(page: Page, options: str) -> list[tuple[str, str, str]]:
    found = page.evaluate(f"axe.run(document, {options})")
    return [
        (each["id"], str(each["nodes"][0]["target"]), each["nodes"][0]["failureSummary"])
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
    ]


# ── jobs ──


def test_a_dead_job_is_found_read_and_run_again(page: Page, demo: Demo) -> None:
    look(page, demo, "/jobs").get_by_role("navigation", name="State").get_by_role("link", name="dead").click()
    messages = page.locator("#part-messages")
    expect(messages).to_contain_text("The scale of broken-0 does not answer")
    messages.get_by_role("link", name="demo.count_shelf").last.click()
    expect(page.get_by_role("region", name="Arguments")).to_contain_text("broken-0")
    press(page, "Retry")
    said(page, "runs again")
    expect(page.get_by_text("1 failed")).to_be_visible()


def test_all_dead_jobs_that_fit_are_discarded_together_after_a_question(page: Page, demo: Demo) -> None:
    look(page, demo, "/jobs?state=dead&error=broken-2")
    expect(page.locator("#part-messages tbody tr")).to_have_count(1)
    page.once("dialog", lambda dialog: dialog.dismiss())
    press(page, "Discard all")
    expect(page.locator("#part-messages tbody tr")).to_have_count(1)
    press(page, "Discard all", confirm=True)
    said(page, "1 message removed.")
    expect(page.locator("#part-messages")).to_contain_text("No message fits.")


def test_a_running_job_shows_how_far_it_is_and_goes_on_by_itself(page: Page, demo: Demo) -> None:
    look(page, demo, "/jobs?state=running")
    row = page.locator("#part-messages").get_by_text("of 400, shelves")
    expect(row).to_be_visible()
    before = row.inner_text()
    expect(row).not_to_have_text(before, timeout=10_000)


def test_a_queue_is_paused_and_resumed(page: Page, demo: Demo) -> None:
    look(page, demo, "/jobs")
    press(page, "Pause", "#part-queues", confirm=True)
    said(page, "is paused")
    expect(page.locator("#part-queues")).to_contain_text("paused by this machine")
    press(page, "Resume", "#part-queues")
    said(page, "goes on")
    expect(page.locator("#part-queues")).not_to_contain_text("paused")


# ── schedules and events ──


def test_schedules_say_when_they_tick_next(page: Page, demo: Demo) -> None:
    look(page, demo, "/schedules")
    row = page.get_by_role("row").filter(has_text="demo.nightly")
    expect(row).to_contain_text("0 3 * * * Europe/London")
    expect(row).to_contain_text("in ")


def test_an_event_in_quarantine_is_read_and_replayed(page: Page, demo: Demo) -> None:
    look(page, demo, "/events")
    quarantine = page.locator("#part-quarantine")
    expect(quarantine).to_contain_text("broken-7 was counted by nobody")
    quarantine.get_by_text("The event").click()
    expect(quarantine.get_by_role("region", name="Event")).to_contain_text('"shelf": "broken-7"')
    press(page, "Replay", "#part-quarantine")
    said(page, "is handled again")


# ── data ──


def test_hot_keys_are_shown_while_they_are_read(page: Page, demo: Demo) -> None:
    look(page, demo, "/cache")
    with httpx2.Client(base_url=demo.url) as client:
        for _ in range(30):
            client.get("/shelves/A-77")
            if page.locator("#part-hottest").get_by_text("shelf:A-77").count():
                break
            page.wait_for_timeout(100)
    expect(page.locator("#part-hottest")).to_contain_text("shelf:A-77")
    press(page, "Clear", "#part-each", confirm=True)
    said(page, "is empty")


def test_findings_name_the_index_that_is_missing_and_what_runs_again_and_again(
    page: Page, demo: Demo
) -> None:
    look(page, demo, "/database")
    findings = page.locator("#part-findings")
    expect(findings.get_by_role("region", name="The statement that helps")).to_have_text(
        "CREATE INDEX ix_parts_shelf ON parts (shelf);"
    )
    expect(findings).to_contain_text("The same statement again and again")
    expect(findings).to_contain_text("pages_app.py")


def test_a_mail_is_read_and_its_html_part_can_do_nothing(page: Page, demo: Demo) -> None:
    look(page, demo, "/mailbox").get_by_role("link", name="Your <parts> are counted").click()
    expect(page.frame_locator("iframe.letter").get_by_role("heading", name="Counted")).to_be_visible()
    expect(page.get_by_role("region", name="The mail as text")).to_contain_text("All 3,000 of them.")
    assert page.locator("iframe.letter").get_attribute("sandbox") == ""


# ── control ──


def test_a_limit_is_changed_and_taken_back(page: Page, demo: Demo) -> None:
    look(page, demo, "/policies").get_by_role("row").filter(has_text="demo.get_weights").get_by_role(
        "link", name="Change"
    ).click()
    expect(page.get_by_label("Policy")).to_have_value("demo.get_weights.limit")
    page.get_by_label("Value").fill("1/hour")
    page.get_by_label("Why").fill("a flood of weights")
    press(page, "Change it")
    said(page, "is 1/hour in all instances")
    expect(page.locator("#part-changed")).to_contain_text("a flood of weights")
    statuses = [httpx2.get(f"{demo.url}/weights", params={"shelf": "A-1"}).status_code for _ in range(2)]
    assert statuses == [200, 429]
    press(page, "Take back", "#part-changed", confirm=True)
    said(page, "is as declared")
    expect(page.locator("#part-changed")).to_contain_text("Every policy is as code and settings say.")


def test_settings_are_searched_by_keys_alone(page: Page, demo: Demo) -> None:
    look(page, demo, "/settings")
    page.keyboard.press("/")
    page.keyboard.type("colour")
    page.keyboard.press("Enter")
    expect(page.get_by_text("services.demo.colour").first).to_be_visible()
    expect(page.get_by_text("http.port")).to_have_count(0)


def test_the_log_is_searched_and_a_line_opened(page: Page, demo: Demo) -> None:
    look(page, demo, "/logs")
    page.get_by_label("Words").fill("sign in")
    page.get_by_role("button", name="Search").click()
    line = page.locator("#part-lines details").first
    expect(line).to_contain_text("operation")
    line.locator("summary").click()
    expect(line.get_by_role("region", name="Traceback")).to_contain_text("RuntimeError")
    with page.expect_response(lambda answer: "part=lines" in answer.url):
        page.evaluate("document.body.dispatchEvent(new Event('acted'))")  # the list is brought up to date
    expect(line.get_by_role("region", name="Traceback")).to_be_visible()
    page.get_by_label("Level").select_option("error")
    expect(page).to_have_url(f"{demo.ops}/logs?text=sign+in&level=error&logger=")


def test_a_profile_is_made_shown_by_itself_and_looked_into(page: Page, demo: Demo) -> None:
    look(page, demo, "/profiler")
    page.locator("select[name=seconds]").select_option("5")
    press(page, "Start a profile")
    said(page, "looks for 5 s")
    with ThreadPoolExecutor(1) as pool:
        pool.submit(
            lambda: [httpx2.get(f"{demo.url}/burn", params={"ms": 200}, timeout=20) for _ in range(8)]
        )
        expect(page.locator("svg.flame")).to_be_visible(timeout=30_000)
    expect(page.locator("svg.flame")).to_contain_text("burn")
    functions = page.get_by_role("region", name="Functions")
    expect(functions).to_contain_text("pages_app.py")
    before = page.locator("svg.flame a").count()
    page.locator("svg.flame a.own").filter(has_text="burn").first.click()
    expect(page.get_by_role("link", name="Whole graph")).to_be_visible()
    assert page.locator("svg.flame a").count() <= before
