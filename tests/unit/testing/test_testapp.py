"""What TestApp promises its users."""

from __future__ import annotations

import os
from typing import Any

import pytest

from support.notes_backend import Written, build, greeting
from tenfold import Principal
from tenfold.errors import JobFailed, NotBound
from tenfold.testing import Published, TestApp
from tenfold.testing.clock import START

pytestmark = pytest.mark.anyio


async def write(t: TestApp, text: str = "hi") -> Any:
    return (await t.client.post("/notes", json={"text": text})).expect(201).json()


async def texts(t: TestApp) -> list[str]:
    return [note["text"] for note in (await t.client.get("/notes")).expect(200).json()]


# ── a world of its own ──


async def test_a_sandbox_forgets_what_happened_in_it() -> None:
    t = TestApp(build().app)
    await t.start()
    try:
        for _ in range(3):
            async with t.sandbox():
                assert await texts(t) == []
                assert (t.jobs, t.events, t.mails) == ([], [], [])
                assert (await t.client.get("/count")).json() == 0
                assert t.clock.now() == START
                await write(t)
                t.login(Principal(id="ada"))
                t.client.headers["x-left"] = "over"
                await t.advance(100_000)
    finally:
        await t.stop()


async def test_the_app_gets_back_the_clock_and_settings_it_had() -> None:
    app = build().app
    app.configure(environ={}, http__port=1234)
    clock = app.clock
    async with TestApp(app):
        assert app.settings.app.env == "test"
        folder = app.data_dir
    assert app.clock is clock
    assert app.settings.http.port == 1234
    assert not app.started
    assert not folder.exists()


async def test_an_app_can_be_tested_again() -> None:
    app = build().app
    for _ in range(2):
        async with app.test() as t:
            await write(t)
            assert await texts(t) == ["HI"]


async def test_settings_are_overridden_and_variables_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "TENFOLD_HTTP_TIMEOUT_S", "99")
    async with build().app.test(http__timeout_s=2.5) as t:
        assert (await t.client.get("/env")).json() == {"env": "test", "timeout_s": 2.5}


async def test_a_failed_start_leaves_nothing_behind() -> None:
    backend = build()
    service = backend.app.services[0]

    @service.on_start
    async def refuse() -> None:
        raise RuntimeError("no")

    clock = backend.app.clock
    with pytest.raises(RuntimeError, match="no"):
        async with backend.app.test():
            pass
    assert backend.app.clock is clock


# ── jobs, events, mails ──


async def test_jobs_run_when_the_request_that_enqueued_them_is_answered(t: TestApp) -> None:
    await write(t)
    assert await texts(t) == ["HI"]
    [job] = t.jobs
    assert (job.name, job.arguments, job.run_at) == ("notes.shout", {"id_": 1}, START)


async def test_captured_jobs_wait_until_they_are_run() -> None:
    async with build().app.test(jobs="captured") as t:
        await write(t)
        assert await texts(t) == ["hi"]
        assert [job.name for job in t.jobs] == ["notes.shout"]
        assert t.mails == []

        assert await t.run_jobs() == 2

        assert await texts(t) == ["HI"]
        assert len(t.mails) == 1


async def test_events_are_recorded_also_when_nobody_subscribes(t: TestApp) -> None:
    await write(t)
    assert t.events == [
        Published("notes.written", Written(1), "k"),
        Published("notes.ignored", Written(1), None),
    ]


async def test_what_was_rolled_back_did_not_happen(t: TestApp) -> None:
    t.raise_errors = False
    answer = await t.client.post("/failing-notes", json={"text": "x"})
    assert answer.status == 500
    assert (t.jobs, t.events, t.mails) == ([], [], [])


async def test_mails_are_captured_whole(t: TestApp) -> None:
    await write(t)
    [mail] = t.mails
    assert (mail.to, mail.subject, mail.text.strip()) == (("ada@example.org",), "Written", "Note 1")
    assert mail.html is not None
    assert "<p>hi</p>" in mail.html


async def test_a_failing_job_raises_in_the_test(t: TestApp) -> None:
    with pytest.raises(JobFailed, match=r"notes\.flaky failed: OSError: the first time never works"):
        await t.client.post("/flaky")


async def test_a_retry_comes_with_time(t: TestApp, backend: Any) -> None:
    t.raise_errors = False
    await t.client.post("/flaky")
    assert backend.attempts == [START]
    await t.advance(60)
    assert len(backend.attempts) == 2


# ── time ──


async def test_time_stands_still_until_it_is_moved(t: TestApp) -> None:
    assert (await t.client.get("/now")).json() == START
    await t.advance(90)
    assert (await t.client.get("/now")).json() == START + 90


async def test_delayed_jobs_run_when_their_time_has_come(t: TestApp) -> None:
    t.jobs_mode = "captured"
    await write(t)
    await t.client.post("/later?seconds=300")
    t.jobs_mode = "inline"
    before = await t.run_jobs()
    assert before == 2
    ran = t._worker.runs.counts["done"] if t._worker else 0
    await t.advance(299)
    assert t._worker is not None
    assert t._worker.runs.counts["done"] == ran
    await t.advance(1)
    assert t._worker.runs.counts["done"] == ran + 1


async def test_schedules_tick_at_their_times_on_the_way(t: TestApp, backend: Any) -> None:
    await t.advance(3 * 3600)
    assert backend.ticks == [START + 3600, START + 7200, START + 10_800]


# ── who asks, what is injected ──


async def test_requests_come_from_whoever_is_logged_in(t: TestApp) -> None:
    assert (await t.client.get("/me")).status == 401
    t.login(Principal(id="ada"))
    assert (await t.client.get("/me")).expect(200).json() == "ada"
    t.logout()
    assert (await t.client.get("/me")).status == 401


async def test_credentials_of_the_request_win(t: TestApp) -> None:
    t.login(Principal(id="ada"))
    answer = await t.client.get("/me", headers={"Authorization": "Bearer good"})
    assert answer.expect(200).json() == "token"


async def test_a_dependency_is_replaced_until_the_end_of_the_test() -> None:
    async def other() -> str:
        return "good evening"

    t = TestApp(build().app)
    await t.start()
    try:
        async with t.sandbox():
            t.override(greeting, other)
            assert (await t.client.get("/greeting")).json() == "good evening"
        async with t.sandbox():
            assert (await t.client.get("/greeting")).json() == "hello"
    finally:
        await t.stop()


# ── errors ──


async def test_an_unforeseen_error_raises_in_the_test(t: TestApp) -> None:
    with pytest.raises(ValueError, match="after all that"):
        await t.client.post("/failing-notes", json={"text": "x"})
    assert await texts(t) == []


async def test_a_problem_is_an_answer(t: TestApp) -> None:
    answer = await t.client.post("/notes", json={"txt": "x"})
    assert answer.status == 422
    assert answer.headers["Content-Type"] == "application/problem+json"


async def test_an_unexpected_status_is_told_with_the_body(t: TestApp) -> None:
    answer = await t.client.get("/nowhere")
    with pytest.raises(AssertionError, match=r"GET /nowhere answered 404 instead of 200:\n.*not served here"):
        answer.expect(200)


async def test_a_database_is_not_usable_outside() -> None:
    backend = build()
    with pytest.raises(NotBound, match=r"app\.test\(\)"):
        backend.database.read()
