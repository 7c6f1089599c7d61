"""Every refusal on a real connection is a problem document that says which limit it was, its value, and when to come back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from support.hostile import Raw, served
from tenfold import Service, Tx, public

pytestmark = pytest.mark.anyio

service = Service("desk", auth=public)
db = service.database(sa.MetaData())
begun: list[asyncio.Event] = []
"""Set when an operation begins."""


class Order(msgspec.Struct):
    seconds: float


@service.get("/limited", limit="1/minute per address")
async def limited() -> None:
    begun[0].set()


@service.get("/places", concurrency=1)
async def places(seconds: float = 0.0) -> None:
    begun[0].set()
    await asyncio.sleep(seconds)


@service.get("/slow", timeout_s=0.1)
async def slow() -> None:
    await asyncio.sleep(10)


@service.post("/orders", idempotent=True, body_max_bytes=100)
async def order(new: Order, tx: Tx) -> None:
    begun[0].set()
    await asyncio.sleep(new.seconds)


@pytest.fixture
async def port(tmp_path: Path) -> AsyncGenerator[int]:
    begun[:] = [asyncio.Event()]
    settings: dict[str, Any] = {
        "http__header_timeout_s": 0.3,
        "http__body_timeout_s": 0.2,
        "http__headers_max": 10,
    }
    async with served(tmp_path, service, database__url="sqlite:///:memory:", **settings) as (port, _):
        yield port


FIVE, SIX = '{"seconds":5}', '{"seconds":6}'


def get(path: str, *lines: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: x", *lines, "", ""]).encode()


def post(body: str, *lines: str, announced: int | None = None) -> bytes:
    size = len(body) if announced is None else announced
    head = [
        "POST /orders HTTP/1.1", "Host: x", "Content-Type: application/json", f"Content-Length: {size}",
        *lines, "", "",
    ]  # fmt: skip
    return "\r\n".join(head).encode() + body.encode()


async def told(port: int, request: bytes) -> tuple[int, dict[str, str], dict[str, Any]]:
    raw = await Raw.to(port, request)
    status, headers, body = await raw.answer()
    raw.writer.close()
    assert headers["content-type"] == "application/problem+json"
    return status, headers, json.loads(body)


@pytest.mark.parametrize(
    ("first", "then", "status", "limit", "value", "retry_after_s"),
    [
        (get("/limited"), get("/limited"), 429, "1/minute per address", None, 60),
        (get("/places?seconds=5"), get("/places"), 503, "concurrency", 1, 1),
        (b"", get("/slow"), 504, "timeout_s", 0.1, 1),
        (b"", get("/slow", "Tenfold-Timeout-Ms: 20"), 504, "Tenfold-Timeout-Ms", 20, 1),
        (b"", get("/slow", "Tenfold-Timeout-Ms: 0"), 504, "Tenfold-Timeout-Ms", 0, 1),
        (b"", b"GET /slow HTTP/1.1\r\n", 408, "http.header_timeout_s", 0.3, None),
        (b"", post("{", announced=50), 408, "http.body_timeout_s", 0.2, None),
        (b"", post("", announced=101), 413, "body_max_bytes", 100, None),
        (b"", get("/slow", *(f"X-{n}: 1" for n in range(10))), 431, "http.headers_max", 10, None),
        (b"", get("/slow", f"X: {'y' * 20_000}"), 431, "http.header_max_bytes", 16384, None),
        (post(FIVE, "Idempotency-Key: a"), post(FIVE, "Idempotency-Key: a"), 409, "Idempotency-Key", 1, 2),
        (post(FIVE, "Idempotency-Key: a"), post(SIX, "Idempotency-Key: a"), 422, "Idempotency-Key", None, None),
    ],
    ids=["429", "503", "504", "504-caller", "504-none", "408-head", "408-body", "413", "431", "431-bytes", "409", "422"],
)  # fmt: skip
async def test_a_refusal_says_which_limit_its_value_and_when_to_come_back(
    port: int, first: bytes, then: bytes, status: int, limit: str, value: object, retry_after_s: int | None
) -> None:
    before = await Raw.to(port, first)
    if first:
        await begun[0].wait()
    was, headers, document = await told(port, then)
    before.writer.close()
    assert (was, document["status"]) == (status, status)
    assert (document["limit"], document.get("value"), document.get("retry_after_s")) == (
        limit,
        value,
        retry_after_s,
    )
    assert headers.get("retry-after") == (None if retry_after_s is None else str(retry_after_s))
    assert document["detail"].endswith(".")
