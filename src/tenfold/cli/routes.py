"""``tenfold routes``: the operations, and with ``--policies`` what surrounds each, and who said so."""

from __future__ import annotations

import shutil
import sys
import textwrap
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from cyclopts import Parameter

from tenfold.cli import console, target
from tenfold.cli.listener import fetch, not_there
from tenfold.cli.target import Config, Target

if TYPE_CHECKING:
    from tenfold.app import App
    from tenfold.http.overview import OperationRow, PolicyRow

COLOURS = {
    "GET": console.CYAN,
    "POST": console.GREEN,
    "PUT": console.YELLOW,
    "PATCH": console.YELLOW,
    "DELETE": console.RED,
}
WORDS = {"timeout_s": "deadline", "body_max_bytes": "body", "idempotent": "idempotency"}
"""Policies whose option is no word."""
INDENT = "        "
WIDTH_MAX = 140


def routes(
    app: Target = None,
    /,
    *,
    policies: Annotated[
        bool, Parameter(negative=(), help="Show what surrounds each, and who said so.")
    ] = False,
    json: Annotated[bool, Parameter(negative=(), help="Print --policies as JSON.")] = False,
    live: Annotated[
        str | None,
        Parameter(help="Of the process whose operations listener is there: what is changed at run time too."),
    ] = None,
    config: Config = None,
) -> int:
    """List the operations, web sockets and mounted apps."""
    loaded = target.load(app, config)
    loaded.configure(config)
    if not (policies or json or live):
        return _list(loaded)
    rows = _running(live, loaded.settings.ops.token) if live else _declared(loaded)
    if json:
        console.say(msgspec.json.format(msgspec.json.encode(rows), indent=2).decode())
        return 0
    _show(rows)
    _show_others(loaded)
    return 0


def _list(app: App) -> int:
    rows = [(o.method, o.path, o.name) for o in app.operations if o.routed]
    rows += [("WS", w.path, w.name) for service in app.services for w in service.websockets]
    rows += [("*", f"{m.path}/…", service.name) for service, m in _mounts(app)]
    rows += [("call", "", o.name) for o in app.operations if not o.routed]
    console.table([(_painted(row[0]), *row[1:]) for row in rows], headings=("method", "path", "operation"))
    return 0


def _declared(app: App) -> list[OperationRow]:
    from tenfold.http.overview import overview

    return overview(app.operations, app.inherited, app.limits, app.settings.http)


def _running(url: str, token: str) -> list[OperationRow]:
    from tenfold.assembly.policies import Policies

    try:
        return msgspec.json.decode(fetch(url, "/policies", token), type=Policies).operations
    except msgspec.DecodeError as error:
        raise not_there(url, error) from None


def _show(rows: list[OperationRow]) -> None:
    """A block per operation: what somebody chose line by line, what holds for all in one last line."""
    widths = tuple(
        max((len(cell(policy)) for row in rows for policy in row.policies if policy.declared), default=0)
        for cell in (_word, lambda policy: policy.shown)
    )
    for row in rows:
        method = _painted(row.method if row.path else "call")
        pad = " " * (len(INDENT) - len(row.method if row.path else "call"))
        name = console.paint(row.operation, console.BOLD)
        console.say(f"{method}{pad}{row.path}  {name}" if row.path else f"{method}{pad}{name}")
        _show_policies(row.policies, widths[0], min(widths[1], 44))
        console.say()


def _show_policies(policies: list[PolicyRow], words: int, values: int) -> None:
    before = ""
    for policy in policies:
        if not policy.declared:
            continue
        word = "" if _word(policy) == before else _word(policy)
        before = _word(policy)
        colour = console.YELLOW if policy.source == "override" else console.DIM
        source = console.paint(policy.source, colour)
        console.say(f"{INDENT}{word:<{words}}  {policy.shown:<{values}}  {source}".rstrip())
    rest = [said for policy in policies if not policy.declared and (said := _unsaid(policy))]
    if rest:
        width = min(shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDTH_MAX, WIDTH_MAX)
        lines = textwrap.wrap(" · ".join(rest), width - len(INDENT), break_long_words=False)
        for line in lines:
            console.say(INDENT + console.paint(line, console.DIM))


def _show_others(app: App) -> None:
    rows: list[tuple[str, ...]] = [
        *(("WS", w.path, w.name, _auth(w.auth)) for service in app.services for w in service.websockets),
        *(("*", f"{m.path}/…", service.name, _auth(m.auth)) for service, m in _mounts(app)),
    ]
    console.table(rows)


def _unsaid(policy: PolicyRow) -> str:
    """What holds although nobody chose it; nothing for what is simply not there."""
    if policy.value is None and policy.name != "auth":
        return "no limit" if policy.name == "limit" else ""
    return "" if policy.value is False else f"{_word(policy)} {policy.shown}"


def _word(policy: PolicyRow) -> str:
    return WORDS.get(policy.name, policy.name)


def _painted(method: str) -> str:
    return console.paint(method, COLOURS[method]) if method in COLOURS else method


def _mounts(app: App) -> list[tuple[Any, Any]]:
    return [(service, mount) for service in app.services for mount in service.mounts]


def _auth(auth: Any) -> str:
    from tenfold.http.operation import UNSET
    from tenfold.security.policy import as_policy

    return "no policy!" if auth is UNSET else as_policy(auth).describe()
