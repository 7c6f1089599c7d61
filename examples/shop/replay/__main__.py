"""``python -m shop.replay LEDGER.csv --url http://127.0.0.1:8000``

Exit codes: 0 when shop and ledger agree, 1 when they differ or the shop cannot be reached, 2 for a wrong call.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from urllib.parse import urlsplit

from shop.demo import ADMIN, ADMIN_PASSWORD
from shop.replay.client import Client, OutOfPatience, Refused
from shop.replay.ledger import LedgerError, Summary, survey
from shop.replay.selling import replay
from shop.replay.verdict import Verdict


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        ledger = survey(
            options.ledger, lambda number, reason: _say(f"line {number}: {reason} It is left out.")
        )
    except LedgerError as error:
        return _fail(2, str(error))
    if not ledger.lines:
        return _fail(2, f"{options.ledger} has no line that can be sold.")
    outcome: Verdict | BaseException
    try:
        outcome = asyncio.run(_replay(options, ledger))
    except* (Refused, OutOfPatience) as errors:
        outcome = _first(errors)
    return _conclude(outcome) if isinstance(outcome, Verdict) else _fail(1, str(outcome))


async def _replay(options: argparse.Namespace, ledger: Summary) -> Verdict:
    async with Client(
        options.url,
        options.user,
        options.password,
        patience_s=options.patience,
        concurrency=options.concurrency,
    ) as client:
        await client.sign_in()
        return await replay(
            client, options.ledger, ledger, concurrency=options.concurrency, patience_s=options.patience
        )


def _conclude(verdict: Verdict) -> int:
    disagreements = verdict.disagreements()
    for sentence in disagreements:
        _say(sentence)
    print(verdict.line(), flush=True)
    return 1 if disagreements else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m shop.replay",
        description="Sell a ledger (CSV, columns of the Online Retail data set) through a running shop and compare.",
    )
    parser.add_argument("ledger", type=Path, metavar="LEDGER.csv")
    parser.add_argument(
        "--url", type=_url, default="http://127.0.0.1:8000", help="the shop (default %(default)s)"
    )
    parser.add_argument(
        "--user", default=ADMIN, help="an admin (default %(default)s, the development seed's)"
    )
    parser.add_argument("--password", default=ADMIN_PASSWORD, help="default: the development seed's")
    parser.add_argument(
        "--concurrency", type=_count, default=16, help="orders at a time (default %(default)s)"
    )
    parser.add_argument(
        "--patience", type=_seconds, default=60.0, metavar="SECONDS",
        help="how long to repeat what fails while the shop is away (default %(default)g)",
    )  # fmt: skip
    return parser


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise argparse.ArgumentTypeError(f"{text!r} is not an address like http://127.0.0.1:8000")
    return text.rstrip("/")


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 256:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 256")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return seconds


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _fail(code: int, sentence: str) -> int:
    _say(sentence)
    return code


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
