"""Made-up visitors: what they ask for, and what they refuse to visit."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from itertools import islice
from typing import Any, cast

import pytest

from shop.visitors import main, visit, visits

SKUS = [f"MUG-{n:03d}" for n in range(40)]


def test_visitors_read_and_now_and_then_one_buys() -> None:
    asked = Counter(each.method for each in islice(visits(SKUS, random.Random(7)), 5_000))
    assert asked.keys() == {"GET", "POST"}
    assert asked["POST"] / 5_000 == pytest.approx(0.02, abs=0.01)


def test_the_same_dice_throw_the_same_visits() -> None:
    one, other = (list(islice(visits(SKUS, random.Random(7)), 200)) for _ in range(2))
    assert one == other


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        (["--url", "https://shop.example"], "is no address of this machine"),
        (["--per-s", "500"], "is not a number of visits a second, up to 50"),
        (["--per-s", "0"], "is not a number of visits a second"),
    ],
)
def test_they_visit_this_machine_only_and_never_in_crowds(
    argument: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(argument)
    assert said in capsys.readouterr().err


class Slow:
    """A shop that lets everybody in and answers nobody."""

    def __init__(self) -> None:
        self.asked = self.left = 0

    async def sign_in(self) -> None: ...

    async def json(self, *_: Any, **__: Any) -> Any:
        return {"items": [{"sku": sku} for sku in SKUS]}

    async def call(self, *_: Any, **__: Any) -> None:
        self.asked += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.left += 1


def test_when_who_started_them_is_gone_no_visit_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Slow()
    monkeypatch.setattr(os, "getppid", lambda: 1 if shop.asked >= 3 else 2)

    async def visited() -> int:
        await asyncio.wait_for(visit(cast("Any", shop), per_s=1_000.0), 10)
        return shop.left

    assert asyncio.run(visited()) == shop.asked >= 3
