"""The dashboard's pages of work, data and control in a real Chromium: everything is looked at and pressed."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest
from playwright.sync_api import Page, expect

from support.pages_server import Demo

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]


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


# ── jobs ──


def test_a_dead_job_is_found_read_and_run_again(operator: Page, demo: Demo) -> None:
    look(operator, demo, "/jobs").get_by_role("navigation", name="State").get_by_role(
        "link", name="dead"
    ).click()
    messages = operator.locator("#part-messages")
    expect(messages).to_contain_text("The scale of broken-0 does not answer")
    messages.get_by_role("link", name="demo.count_shelf").last.click()
    expect(operator.get_by_role("region", name="Arguments")).to_contain_text("broken-0")
    press(operator, "Retry")
    said(operator, "runs again")
    expect(operator.get_by_text("1 failed")).to_be_visible()


def test_all_dead_jobs_that_fit_are_discarded_together_after_a_question(operator: Page, demo: Demo) -> None:
    look(operator, demo, "/jobs?state=dead&error=broken-2")
    expect(operator.locator("#part-messages tbody tr")).to_have_count(1)
    operator.once("dialog", lambda dialog: dialog.dismiss())
    press(operator, "Discard all")
    expect(operator.locator("#part-messages tbody tr")).to_have_count(1)
    press(operator, "Discard all", confirm=True)
    said(operator, "1 message removed.")
    expect(operator.locator("#part-messages")).to_contain_text("No message fits.")


def test_a_running_job_shows_how_far_it_is_and_goes_on_by_itself(operator: Page, demo: Demo) -> None:
    look(operator, demo, "/jobs?state=running")
    row = operator.locator("#part-messages").get_by_text("of 4,000, shelves")
    expect(row).to_be_visible()
    before = row.inner_text()
    expect(row).not_to_have_text(before, timeout=10_000)


def test_a_queue_is_paused_and_resumed(operator: Page, demo: Demo) -> None:
    look(operator, demo, "/jobs")
    press(operator, "Pause", "#part-queues", confirm=True)
    said(operator, "is paused")
    expect(operator.locator("#part-queues")).to_contain_text("paused by ops.token")
    press(operator, "Resume", "#part-queues")
    said(operator, "goes on")
    expect(operator.locator("#part-queues")).not_to_contain_text("paused")


def test_dead_jobs_are_run_again_together_and_one_is_discarded(operator: Page, demo: Demo) -> None:
    look(operator, demo, "/jobs?state=dead&error=broken-1")
    messages = operator.locator("#part-messages")
    press(operator, "Retry all", confirm=True)
    said(operator, "1 message will run again.")
    expect(messages.locator("tbody tr")).to_have_count(1)  # it has failed again
    messages.get_by_role("link", name="demo.count_shelf").click()
    press(operator, "Discard", confirm=True)
    said(operator, "is removed")
    expect(operator.get_by_role("note")).to_contain_text("is gone")


def test_a_running_job_is_asked_to_stop(operator: Page, demo: Demo) -> None:
    look(operator, demo, "/jobs?state=running").locator("#part-messages").get_by_role(
        "link", name="demo.recount"
    ).click()
    press(operator, "Cancel", confirm=True)
    said(operator, "is cancelled, or stops soon")
    expect(operator.locator("main").get_by_text("cancelled", exact=True).first).to_be_visible()


# ── schedules and events ──


def test_schedules_say_when_they_tick_next(operator: Page, demo: Demo) -> None:
    look(operator, demo, "/schedules")
    row = operator.get_by_role("row").filter(has_text="demo.nightly")
    expect(row).to_contain_text("0 3 * * * Europe/London")
    expect(row).to_contain_text("in ")


def test_an_event_in_quarantine_is_read_replayed_and_discarded(operator: Page, demo: Demo) -> None:
    look(operator, demo, "/events")
    quarantine = operator.locator("#part-quarantine")
    expect(quarantine).to_contain_text("broken-7 was counted by nobody")
    quarantine.get_by_text("The event").click()
    expect(quarantine.get_by_role("region", name="Event")).to_contain_text('"shelf": "broken-7"')
    press(operator, "Replay", "#part-quarantine")
    said(operator, "is handled again")
    press(operator, "Replay all", "#part-quarantine", confirm=True)  # it has failed again
    said(operator, "1 event will be handled again.")
    press(operator, "Discard", "#part-quarantine", confirm=True)
    said(operator, "is removed")
    expect(quarantine).to_contain_text("Nothing is in quarantine")


def test_what_was_published_is_published_again(operator: Page, demo: Demo) -> None:
    look(operator, demo, "/events").locator("select[name=topic]").select_option("demo.counted")
    press(operator, "Publish again", confirm=True)
    said(operator, "will be published again")


# ── data ──


def test_hot_keys_are_shown_while_they_are_read(operator: Page, demo: Demo) -> None:
    look(operator, demo, "/cache")
    with httpx2.Client(base_url=demo.url) as client:
        for _ in range(30):
            client.get("/shelves/A-77")
            if operator.locator("#part-hottest").get_by_text("shelf:A-77").count():
                break
            operator.wait_for_timeout(100)
    expect(operator.locator("#part-hottest")).to_contain_text("shelf:A-77")
    press(operator, "Clear", "#part-each", confirm=True)
    said(operator, "is empty")


def test_findings_name_the_index_that_is_missing_and_what_runs_again_and_again(
    operator: Page, demo: Demo
) -> None:
    look(operator, demo, "/database")
    findings = operator.locator("#part-findings")
    expect(findings.get_by_role("region", name="The statement that helps")).to_have_text(
        "CREATE INDEX ix_parts_shelf ON parts (shelf);"
    )
    expect(findings).to_contain_text("The same statement again and again")
    expect(findings).to_contain_text("pages_app.py")
    press(operator, "Look again")
    said(operator, "The planner is asked again.")


def test_a_mail_is_read_and_its_html_part_can_do_nothing(operator: Page, demo: Demo) -> None:
    look(operator, demo, "/mailbox").get_by_role("link", name="Your <parts> are counted").click()
    expect(operator.frame_locator("iframe.letter").get_by_role("heading", name="Counted")).to_be_visible()
    expect(operator.get_by_role("region", name="The mail as text")).to_contain_text("All 3,000 of them.")
    assert operator.locator("iframe.letter").get_attribute("sandbox") == ""


# ── control ──


def test_a_limit_is_changed_and_taken_back(operator: Page, demo: Demo) -> None:
    look(operator, demo, "/policies").get_by_role("row").filter(has_text="demo.get_weights").get_by_role(
        "link", name="Change"
    ).click()
    expect(operator.get_by_label("Policy")).to_have_value("demo.get_weights.limit")
    operator.get_by_label("Value").fill("1/hour")
    operator.get_by_label("Why").fill("a flood of weights")
    press(operator, "Change it")
    said(operator, "is 1/hour in all instances")
    expect(operator.locator("#part-changed")).to_contain_text("a flood of weights")
    statuses = [httpx2.get(f"{demo.url}/weights", params={"shelf": "A-1"}).status_code for _ in range(2)]
    assert statuses == [200, 429]
    press(operator, "Take back", "#part-changed", confirm=True)
    said(operator, "is as declared")
    expect(operator.locator("#part-changed")).to_contain_text("Every policy is as code and settings say.")


def test_settings_are_searched_by_keys_alone(operator: Page, demo: Demo) -> None:
    look(operator, demo, "/settings")
    operator.keyboard.press("/")
    operator.keyboard.type("colour")
    operator.keyboard.press("Enter")
    expect(operator.get_by_text("services.demo.colour").first).to_be_visible()
    expect(operator.get_by_text("http.port")).to_have_count(0)


def test_the_log_is_searched_and_a_line_opened(operator: Page, demo: Demo) -> None:
    look(operator, demo, "/logs")
    operator.get_by_label("Words").fill("sign in")
    operator.get_by_role("button", name="Search").click()
    line = operator.locator("#part-lines details").first
    expect(line).to_contain_text("operation")
    line.locator("summary").click()
    expect(line.get_by_role("region", name="Traceback")).to_contain_text("RuntimeError")
    with operator.expect_response(lambda answer: "part=lines" in answer.url):
        operator.evaluate("document.body.dispatchEvent(new Event('acted'))")  # the list is brought up to date
    expect(line.get_by_role("region", name="Traceback")).to_be_visible()
    operator.get_by_label("Level").select_option("error")
    expect(operator).to_have_url(f"{demo.ops}/logs?text=sign+in&level=error&logger=")


def test_a_profile_is_made_shown_by_itself_and_looked_into(operator: Page, demo: Demo) -> None:
    look(operator, demo, "/profiler")
    operator.locator("select[name=seconds]").select_option("5")
    press(operator, "Start a profile")
    said(operator, "looks for 5 s")
    with ThreadPoolExecutor(1) as pool:
        pool.submit(
            lambda: [httpx2.get(f"{demo.url}/burn", params={"ms": 200}, timeout=20) for _ in range(8)]
        )
        expect(operator.locator("svg.flame")).to_be_visible(timeout=30_000)
    expect(operator.locator("svg.flame")).to_contain_text("burn")
    functions = operator.get_by_role("region", name="Functions")
    expect(functions).to_contain_text("pages_app.py")
    before = operator.locator("svg.flame a").count()
    operator.locator("svg.flame a.own").filter(has_text="burn").first.click()
    expect(operator.get_by_role("link", name="Whole graph")).to_be_visible()
    assert operator.locator("svg.flame a").count() <= before


def test_a_profile_is_ended_early_with_what_it_has(operator: Page, demo: Demo) -> None:
    look(operator, demo, "/profiler").locator("select[name=seconds]").select_option("60")
    press(operator, "Start a profile")
    said(operator, "looks for 60 s")
    with operator.expect_response(lambda answer: answer.request.method == "POST") as answered:
        press(operator, "Stop")
    assert "ends with what it has" in answered.value.headers["hx-trigger"]
    # The page leads to it by itself, and what it said is gone then.
    expect(operator).to_have_url(re.compile("profile="))
    expect(operator.get_by_role("button", name="Start a profile")).to_be_visible()
