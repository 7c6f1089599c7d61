"""Hints wake, once per round of the loop, and never fail their giver."""

from __future__ import annotations

import asyncio

import pytest

from tenfold.db import Database

pytestmark = pytest.mark.anyio


async def test_many_hints_of_one_round_become_one_call_of_everybody_who_waits(db: Database) -> None:
    woken: list[str] = []
    db.backend.on_hint("queue", lambda: woken.append("a"))
    db.backend.on_hint("queue", lambda: woken.append("b"))
    for _ in range(100):
        db.backend.hint("queue")
        db.backend.hint("nobody-waits")
    assert woken == []
    await asyncio.sleep(0)
    assert woken == ["a", "b"]
    db.backend.hint("queue")
    await asyncio.sleep(0)
    assert woken == ["a", "b", "a", "b"]


async def test_a_callback_that_raises_is_logged_and_the_others_are_called(
    db: Database, caplog: pytest.LogCaptureFixture
) -> None:
    woken: list[int] = []
    db.backend.on_hint("queue", lambda: 1 / 0)
    db.backend.on_hint("queue", lambda: woken.append(1))
    db.backend.hint("queue")
    await asyncio.sleep(0)
    assert woken == [1]
    assert "waits for hints on 'queue' failed" in caplog.text


async def test_who_has_ended_is_not_called_any_more(db: Database) -> None:
    woken: list[int] = []
    end = db.backend.on_hint("queue", lambda: woken.append(1))
    db.backend.hint("queue")
    end()
    end()
    await asyncio.sleep(0)
    assert woken == []
