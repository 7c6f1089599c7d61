"""Gentle traffic for a shop to look at: ``python -m shop.visitors --per-s 5``. ``make run`` starts it beside the shop.

Visitors arrive at random, so many a second on the average, however long the shop takes (an open loop: a slow shop does
not slow them down, as it does not slow down people). They read, search, find what is not there, and now and then
somebody buys. They sign in with the development seed's account and visit this machine only: a shop in production has
none of them. They leave with the process that started them.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from shop.demo import CUSTOMER, CUSTOMER_PASSWORD
from shop.replay.client import Client, OutOfPatience, Refused
from shop.seed import COLOURS, PICTURES, THINGS, products

MOST_PER_S: Final = 50.0
"""What is more is a load test, and wants a tool that measures."""
AT_A_TIME: Final = 20
"""Visits under way; a visitor who finds so many goes away again."""
LOOK_S: Final = 1.0
"""Between two looks whether the shop is there, or whether whoever started this still is."""


class Visit(NamedTuple):
    """One request."""

    method: str
    path: str
    query: Mapping[str, str | int] = {}
    body: Mapping[str, Any] | None = None


def visits(skus: list[str], dice: random.Random) -> Iterator[Visit]:
    """What visitors ask for, without end; the same dice throw the same."""
    pictured = [each.sku for each in products()[: max(PICTURES, 1)]]
    kinds: dict[Callable[[], Visit], int] = {
        lambda: Visit("GET", "/products", {"page": dice.randint(1, 8)}): 22,
        lambda: Visit("GET", f"/products/{dice.choice(skus)}"): 30,
        lambda: Visit("GET", "/products", {"q": dice.choice((*COLOURS, *(name for name, *_ in THINGS)))}): 10,
        lambda: Visit("GET", "/categories"): 10,
        lambda: Visit("GET", f"/stock/{dice.choice(skus)}"): 12,
        lambda: Visit("GET", f"/pictures/{dice.choice(pictured)}/small"): 6,
        lambda: Visit("GET", "/orders"): 5,
        lambda: Visit("GET", f"/products/NOTHING-{dice.randint(1, 999)}"): 3,
        lambda: Visit("POST", "/orders", body=_order(skus, dice)): 2,
    }
    while True:
        (kind,) = dice.choices(list(kinds), list(kinds.values()))
        yield kind()


def _order(skus: list[str], dice: random.Random) -> Mapping[str, Any]:
    chosen = dice.sample(skus, dice.randint(1, 3))
    return {"lines": [{"sku": sku, "quantity": dice.randint(1, 2)} for sku in chosen]}


async def visit(shop: Client, per_s: float) -> None:
    """Visit the shop until whoever started this process is gone. Raises Refused when nobody may sign in."""
    starter, dice = os.getppid(), random.Random()
    await _signed_in(shop, starter)
    listed = await shop.json("GET", "/products", params={"per_page": 100})
    every = visits([each["sku"] for each in listed["items"]], dice)
    under_way: set[asyncio.Task[None]] = set()
    due = time.monotonic()
    while os.getppid() == starter:
        due = max(
            due + dice.expovariate(per_s), time.monotonic() - LOOK_S
        )  # a machine that slept owes nothing
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        each = next(every)
        if len(under_way) < AT_A_TIME:
            task = asyncio.create_task(_one(shop, each))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
    for task in list(under_way):  # nobody is there to answer them, and the client is about to close
        task.cancel()
    await asyncio.gather(*under_way, return_exceptions=True)


async def _signed_in(shop: Client, starter: int) -> None:
    """Return when the shop is there and has let us in."""
    while os.getppid() == starter:
        try:
            await shop.sign_in()
        except OutOfPatience:
            await asyncio.sleep(LOOK_S)
        else:
            break


async def _one(shop: Client, each: Visit) -> None:
    """One visit. Whether it went well is the shop's to show."""
    given: dict[str, Any] = {"params": dict(each.query)} if each.query else {}
    if each.body is not None:
        given |= {"json": each.body, "headers": {"idempotency-key": str(uuid.uuid4())}}
    try:
        await shop.call(each.method, each.path, **given)
    except (Refused, OutOfPatience):
        pass


async def _visit(url: str, per_s: float) -> None:
    async with Client(url, CUSTOMER, CUSTOMER_PASSWORD, patience_s=0.0, concurrency=AT_A_TIME) as shop:
        await visit(shop, per_s)


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        asyncio.run(_visit(options.url, options.per_s))
    except Refused as error:
        sentence = (
            f"No visitors come: {error} They need the account of a shop that was seeded in development."
        )
        print(sentence, file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m shop.visitors",
        description="Gentle traffic for a shop that runs in development on this machine, as long as its parent process lives.",
    )
    parser.add_argument(
        "--url", type=_local, default="http://127.0.0.1:8000", help="the shop (default %(default)s)"
    )
    parser.add_argument(
        "--per-s", type=_rate, default=5.0, help="visits a second on the average (default %(default)g)"
    )
    return parser


def _local(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme != "http" or parts.hostname not in ("127.0.0.1", "::1", "localhost"):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no address of this machine, like http://127.0.0.1:8000"
        )
    return text.rstrip("/")


def _rate(text: str) -> float:
    try:
        per_s = float(text)
    except ValueError:
        per_s = 0.0
    if not 0 < per_s <= MOST_PER_S:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of visits a second, up to {MOST_PER_S:g}")
    return per_s


if __name__ == "__main__":
    sys.exit(main())
