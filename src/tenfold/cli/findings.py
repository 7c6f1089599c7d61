"""``tenfold check --live``: what a running process has found out about its database."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import msgspec

from tenfold._core.text import plural
from tenfold.cli import console
from tenfold.errors import ConfigError

if TYPE_CHECKING:
    from tenfold.db.finder.findings import Finding, Report

_TIMEOUT_S = 30.0
_TITLES = {
    "slow": "Slow statement",
    "repeated": "Repeated statement",
    "scan": "Missing index",
    "unused-index": "Unused index",
    "pool-wait": "Waiting for connections",
}


def show(url: str, token: str) -> int:
    """Print the findings of the process whose operations listener is at ``url``; 1 when there are any."""
    report = _fetch(url.rstrip("/") + "/database", token)
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

    request = urllib.request.Request(  # noqa: S310 - the operator's own address
        url, headers={"authorization": f"Bearer {token}"} if token else {}
    )
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310
            return msgspec.json.decode(answer.read(), type=Report)
    except urllib.error.HTTPError as error:
        if error.code == 401:
            raise ConfigError(
                "it asks for the token of its operations listener.", where=url,
                remedy="Set ops.token (TENFOLD_OPS_TOKEN) to the one of the running process.",
            ) from None  # fmt: skip
        raise ConfigError(f"it answered {error.code}.", where=url, remedy=_REMEDY) from None
    except (OSError, ValueError, msgspec.DecodeError) as error:
        reason = getattr(error, "reason", error)
        raise ConfigError(
            f"nobody answers there as an operations listener ({reason}).", where=url, remedy=_REMEDY
        ) from None


_REMEDY = "Give --live the address that `tenfold run` prints for operations, such as http://127.0.0.1:8001."
