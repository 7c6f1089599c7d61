"""Errors become problem documents; what nobody foresaw tells the client nothing and the log everything."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from http_calls import Client, acall, app_of, call, operation, run, scope_of

from tenfold import errors
from tenfold._core.sections import HttpSettings
from tenfold.http.asgi import HttpApp
from tenfold.http.stream import Stream


def app_raising(error: BaseException) -> HttpApp:
    async def handler() -> str:
        raise error

    return app_of(operation(handler, path="/x"))


def test_a_problem_raised_by_the_handler_is_the_answer() -> None:
    error = errors.Conflict("The seat is taken.", headers={"Retry-After": "5"}, seat="12A")
    answer = call(app_raising(error), "GET", "/x")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["retry-after"] == "5"
    request_id = answer.json["request_id"]
    assert request_id
    assert answer.json == {
        "type": "urn:tenfold:problem:conflict",
        "title": "Conflict",
        "status": 409,
        "detail": "The seat is taken.",
        "instance": "/x",
        "seat": "12A",
        "retry_after_s": 5,
        "request_id": request_id,
    }


def test_an_unforeseen_error_is_logged_with_its_traceback_and_told_without_a_word_of_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.ERROR):
        answer = call(app_raising(ZeroDivisionError("password=hunter2")), "GET", "/x")
    assert answer.status == 500
    assert b"hunter2" not in answer.body
    (record,) = caplog.records
    assert record.exc_info
    assert record.__dict__["request_id"] == answer.json["request_id"]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.NoRow("SELECT secret FROM users"), 404),
        (errors.UniqueViolation("users.email", table="users", columns=("email",)), 409),
        (errors.DatabaseUnavailable("postgres://secret"), 503),
        (errors.SerializationFailure("secret"), 503),
        (errors.StatementTimeout("secret"), 504),
        (errors.ManyRows("secret"), 500),
        (errors.TransactionMisuse("secret"), 500),
        (errors.NotBound("secret"), 500),
        (errors.CallError("secret"), 503),
    ],
)
def test_errors_of_the_framework_have_their_status_and_keep_their_text_to_the_log(
    error: Exception, status: int
) -> None:
    answer = call(app_raising(error), "GET", "/x")
    assert (answer.status, b"secret" in answer.body) == (status, False)
    if isinstance(error, errors.IntegrityError):
        assert answer.json["fields"] == ["email"]


def test_a_member_that_cannot_be_encoded_does_not_cost_the_answer() -> None:
    answer = call(app_raising(errors.Conflict("No.", thing=object())), "GET", "/x")
    assert (answer.status, answer.json["detail"]) == (409, "No.")


def test_a_deadline_that_passes_is_504_and_cancels_the_handler() -> None:
    ended: list[str] = []

    async def slow() -> None:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async def main() -> Any:
        app = app_of(operation(slow, timeout_s=0.05))
        answer = await acall(app, "GET", "/")
        task = asyncio.current_task()
        assert task is not None
        assert not task.cancelling()
        assert not app.sweeper.inflight
        await app.stop()
        return answer

    answer = run(main())
    assert (answer.status, ended) == (504, ["cancelled"])
    assert "0.05 seconds" in answer.json["detail"]


def test_a_client_that_goes_away_cancels_its_handler() -> None:
    ended = asyncio.Event()

    async def slow() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            ended.set()

    async def main() -> list[Any]:
        app = app_of(operation(slow))
        client = Client([b""])
        work = asyncio.create_task(app(scope_of("GET", "/"), client.receive, client.send))
        await asyncio.sleep(0.01)
        client.gone.set()
        async with asyncio.timeout(5):
            await ended.wait()
            await work
        await app.stop()
        return client.sent

    assert [m["status"] for m in run(main()) if "status" in m] == [499]


def test_a_body_that_does_not_arrive_is_408() -> None:
    async def place(order: dict[str, int]) -> int:
        return len(order)

    async def main() -> list[Any]:
        app = app_of(operation(place, "POST"), settings=HttpSettings(body_timeout_s=0.1))
        client = Client([])
        async with asyncio.timeout(5):
            await app(scope_of("POST", "/"), client.receive, client.send)
        await app.stop()
        return client.sent

    assert run(main())[0]["status"] == 408


def test_a_client_that_goes_away_ends_the_stream() -> None:
    closed = asyncio.Event()

    async def main() -> None:
        async def endless() -> Any:
            try:
                while True:
                    yield b"x"
                    await asyncio.sleep(0.001)
            finally:
                closed.set()

        async def handler() -> Stream:
            return Stream(endless())

        app = app_of(operation(handler))
        client = Client([b""])
        work = asyncio.create_task(app(scope_of("GET", "/"), client.receive, client.send))
        await asyncio.sleep(0.02)
        client.gone.set()
        async with asyncio.timeout(5):
            await work
            await closed.wait()
        await app.stop()

    run(main())


def test_a_stop_of_the_server_is_no_problem_document() -> None:
    async def slow() -> None:
        await asyncio.sleep(30)

    async def main() -> None:
        app = app_of(operation(slow))
        client = Client([b""])
        work = asyncio.create_task(app(scope_of("GET", "/"), client.receive, client.send))
        await asyncio.sleep(0.01)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        assert client.sent == []
        await app.stop()

    run(main())


def test_a_handler_that_blocks_the_loop_is_named_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    import time

    async def rude() -> None:
        time.sleep(0.2)  # noqa: ASYNC251 - this is what is to be found

    async def main() -> None:
        app = app_of(operation(rude), settings=HttpSettings(blocked_loop_warn_s=0.05))
        await app.start()
        await asyncio.sleep(0.02)
        await acall(app, "GET", "/")
        await app.stop()
        assert app.watchdog.blocked == 1

    with caplog.at_level(logging.WARNING):
        run(main())
    message = next(r.getMessage() for r in caplog.records if "event loop" in r.getMessage())
    assert message.startswith("shop.rude has held the event loop")
    assert "test_http_errors.py:" in message


@pytest.mark.parametrize("error", [SystemExit(3), asyncio.CancelledError()])
def test_a_handler_that_exits_or_awaits_a_cancelled_task_has_failed_like_any_other(
    error: BaseException,
) -> None:
    answer = call(app_raising(error), "GET", "/x")
    assert answer.status == 500
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_request_that_is_really_cancelled_stays_cancelled() -> None:
    async def handler() -> str:
        await asyncio.sleep(60)
        return "never"

    async def cancelled() -> bool:
        client = Client([b""])
        app = app_of(operation(handler, path="/x"))
        task = asyncio.create_task(app(scope_of("GET", "/x"), client.receive, client.send))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled() and not client.sent

    assert run(cancelled())


def test_what_the_tasks_of_a_group_say_reaches_the_client() -> None:
    async def handler() -> str:
        async def missing() -> None:
            raise errors.NotFound("There is no such seat.")

        async with asyncio.TaskGroup() as group:
            group.create_task(missing())
        return "never"

    answer = call(app_of(operation(handler, path="/x")), "GET", "/x")
    assert (answer.status, answer.json["detail"]) == (404, "There is no such seat.")


def test_a_group_with_an_unforeseen_error_is_unforeseen() -> None:
    group = ExceptionGroup("tasks", [errors.NotFound("no seat"), ZeroDivisionError("secret")])
    answer = call(app_raising(group), "GET", "/x")
    assert answer.status == 500
    assert b"secret" not in answer.body


def test_a_plain_handler_that_raises_stop_iteration_fails_at_once() -> None:
    def handler() -> int:
        return next(iter(()))  # no future can carry StopIteration: this would wait for the deadline

    answer = call(app_of(operation(handler, path="/x", timeout_s=20.0)), "GET", "/x")
    assert answer.status == 500
