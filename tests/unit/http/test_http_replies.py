"""What handlers return reaches the client with the status, headers and body they mean."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pydantic
import pytest
from http_calls import app_of, call, operation

from tenfold.errors import DeclarationError
from tenfold.http.files import File
from tenfold.http.reply import Redirect, Reply, Response, StreamingResponse
from tenfold.http.stream import Stream


class Account(msgspec.Struct):
    id: int
    secret: str = "hidden"


class PublicAccount(msgspec.Struct):
    id: int


class Model(pydantic.BaseModel):
    id: int


def answer_of(result: Any, returns: Any = Any, method: str = "GET", **policies: Any) -> Any:
    async def handler() -> Any:
        return result

    handler.__annotations__["return"] = returns
    return call(app_of(operation(handler, **policies)), method, "/")


def test_a_value_is_json_with_the_declared_status() -> None:
    answer = answer_of(Account(1), Account, status=201)
    assert (answer.status, answer.json) == (201, {"id": 1, "secret": "hidden"})
    assert answer.headers == {"content-type": "application/json", "content-length": "26"}


def test_none_is_204_without_a_body() -> None:
    answer = answer_of(None, None)
    assert (answer.status, answer.body, answer.headers) == (204, b"", {})


def test_none_of_a_value_that_may_be_missing_is_null() -> None:
    answer = answer_of(None, Account | None)
    assert (answer.status, answer.body) == (200, b"null")


def test_pydantic_models_are_encoded_also_inside_of_lists() -> None:
    assert answer_of([Model(id=1)], list[Model]).json == [{"id": 1}]


def test_a_reply_adds_status_headers_and_cookies_to_a_typed_value() -> None:
    reply = Reply(Account(1), 201, headers={"Location": "/accounts/1"})
    reply.set_cookie("seen", "yes", max_age_s=60).delete_cookie("old")
    answer = answer_of(reply, Reply[Account])
    assert (answer.status, answer.json["id"], answer.headers["location"]) == (201, 1, "/accounts/1")
    cookies = [value for name, value in answer.raw_headers if name == b"set-cookie"]
    assert cookies == [
        b"seen=yes; Max-Age=60; Path=/; Secure; HttpOnly; SameSite=Lax",
        b"old=; Max-Age=0; Path=/; Secure; HttpOnly; SameSite=Lax",
    ]


@pytest.mark.parametrize("returns", [Response, Any, Account | Response])
def test_a_response_is_sent_as_it_is(returns: Any) -> None:
    answer = answer_of(Response("a,b", 202, {"X-Rows": "1"}, "text/csv"), returns)
    assert (answer.status, answer.body) == (202, b"a,b")
    assert answer.headers == {"x-rows": "1", "content-type": "text/csv", "content-length": "3"}


def test_a_redirect_names_the_place() -> None:
    answer = answer_of(Redirect("/a b?c=d"), Redirect)
    assert (answer.status, answer.headers["location"]) == (303, "/a%20b?c=d")


@pytest.mark.parametrize("value", ["a\r\nset-cookie: x=y", "a\nb", "a\0b"])
def test_a_header_cannot_be_split(value: str) -> None:
    with pytest.raises(ValueError, match="control character"):
        Reply(None, headers={"X-A": value})
    with pytest.raises(ValueError, match="cookies may not carry"):
        Reply(None).set_cookie("a", value)


def test_response_model_leaves_out_what_it_does_not_name() -> None:
    assert answer_of(Account(1), Account, response_model=PublicAccount).json == {"id": 1}
    assert answer_of([Account(1)], Any, response_model=list[PublicAccount]).json == [{"id": 1}]
    assert answer_of(Model(id=2), Model, response_model=PublicAccount).json == {"id": 2}


def test_a_stream_is_sent_in_pieces() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"a"
        yield b""
        yield b"b"

    answer = answer_of(Stream(pieces()), Stream)
    assert [m.get("body") for m in answer.messages[1:]] == [b"a", b"b", b""]
    assert [m.get("more_body", False) for m in answer.messages[1:]] == [True, True, False]


def test_a_file_answers_ranges_and_its_head(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("0123456789")

    async def download() -> File:
        return File(tmp_path / "a.txt")

    app = app_of(operation(download))
    answer = call(app, "GET", "/", headers=[(b"range", b"bytes=2-4")])
    assert (answer.status, answer.body) == (206, b"234")
    head = call(app, "HEAD", "/")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", "10")
    assert call(app, "GET", "/", headers=[(b"range", b"bytes=99-")]).status == 416


def test_head_has_the_headers_of_get_and_no_body() -> None:
    answer = answer_of(Account(1), Account, "HEAD")
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "26")


def test_an_etag_saves_sending_what_the_client_has() -> None:
    async def read() -> Account:
        return Account(1)

    app = app_of(operation(read, etag=True))
    etag = call(app, "GET", "/").headers["etag"]
    for tags in (etag, f'"x", W/{etag}', "*"):
        answer = call(app, "GET", "/", headers=[(b"if-none-match", tags.encode())])
        assert (answer.status, answer.body, answer.headers) == (304, b"", {"etag": etag})
    assert call(app, "GET", "/", headers=[(b"if-none-match", b'"x"')]).status == 200


def test_a_result_that_cannot_be_encoded_is_a_500_that_says_nothing() -> None:
    answer = answer_of(object(), Any)
    assert (answer.status, "object" in answer.json["detail"]) == (500, False)


@pytest.mark.parametrize("status", [100, 199, 600, 700, -1])
def test_only_what_ends_an_exchange_is_the_status_of_an_answer(status: int) -> None:
    """1xx only announces an answer, and a client waits on for it."""
    for made in (Response, StreamingResponse, partial(Reply, 1)):
        with pytest.raises(ValueError, match=rf"{status} is not the status of an answer"):
            made(status=status)
    with pytest.raises(DeclarationError, match=rf"status={status} is not"):
        answer_of(1, status=status)
