"""``tenfold check --live``: what a running process has found out about its database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from tenfold._core.text import plural
from tenfold.cli import console
from tenfold.cli.listener import fetch, not_there

if TYPE_CHECKING:
    from tenfold.db.finder.findings import Finding, Report

_TITLES = {
    "slow": "Slow statement",
    "repeated": "Repeated statement",
    "scan": "Missing index",
    "unused-index": "Unused index",
    "pool-wait": "Waiting for connections",
}


def show(url: str, token: str) -> int:
    """Print the findings of the process whose operations listener is at ``url``; 1 when there are any."""
    report = _fetch(url, token)
    for finding in report.findings:
        _print(finding)
    ran = f"{plural(report.executions, 'execution')} of {plural(report.statements, 'statement')}"
    if report.findings:
        console.say(f"{plural(len(report.findings), 'finding')} in {ran}; the most expensive first.")
        return 1
    console.say(f"{console.paint('✓', console.GREEN)} {ran} timed. Nothing is wrong.")
    return 0


def _print(finding: Finding) -> None:
    place = " at ".join(filter(None, (finding.operation, finding.where)))
    console.say(
        f"{console.paint('!', console.YELLOW)} {_TITLES[finding.kind]}{f' in {place}' if place else ''}"
    )
    if finding.kind != "pool-wait":  # which is about no statement
        console.say(f"    {finding.subject}")
    console.say(f"    {finding.sentence}")
    console.say(f"    → {finding.remedy}\n")


def _fetch(url: str, token: str) -> Report:
    from tenfold.db.finder.findings import Report

    try:
        return msgspec.json.decode(fetch(url, "/database", token), type=Report)
    except msgspec.DecodeError as error:
        raise not_there(url, error) from None
