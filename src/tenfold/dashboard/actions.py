"""What visitors do: one action of one page, checked, run, written down, and said in a sentence.

An action is a POST that only this dashboard's own pages can make: htmx sends a header that a form of another site
cannot (``HX-Request``), browsers say which site asks (``Origin``, ``Sec-Fetch-Site``: the listener looks at these for
everything that it is sent), and the cookie is ``SameSite``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from tenfold.dashboard.html import EMPTY, Html
from tenfold.dashboard.view import READERS
from tenfold.errors import Forbidden, NotFound, Problem, TenfoldError
from tenfold.http.problems import problem_of
from tenfold.telemetry import names
from tenfold.telemetry.log import get_logger
from tenfold.telemetry.ops_access import Visitor

if TYPE_CHECKING:
    from tenfold.dashboard.view import View

log = logging.getLogger("tenfold.dashboard")
audit = get_logger("tenfold.audit")

SAID: Final = "tenfold:said"
"""The event that the page shows as a message: ``{"text": …, "mood": "good" | "bad"}``."""
_WORDS_MAX: Final = 200


class Answer(NamedTuple):
    status: int
    body: Html
    headers: Mapping[str, str]


async def act(view: View, headers: Mapping[str, str], address: str) -> Answer:
    """Run the action that the query names; every attempt is written to the audit log."""
    name = view.query.get("action", "")
    outcome = "refused"
    try:
        _check(view, name, headers)
        outcome = "failed"
        result: str | Html = await getattr(view.page, name)(view)
        outcome = "done"
        if isinstance(result, Html):
            return Answer(200, result, {"HX-Trigger": "acted"})
        return Answer(200, EMPTY, _said(result, "good", acted=True))
    except TenfoldError as error:
        problem = error if isinstance(error, Problem) else problem_of(error)
        return Answer(problem.status, EMPTY, _said(problem.detail or problem.title, "bad"))
    except Exception as error:  # the visitor is told, the log has the rest
        log.exception("action %s of page %s failed", name, view.page.path)
        return Answer(500, EMPTY, _said(f"It failed: {type(error).__name__}. The log says where.", "bad"))
    finally:
        record(view, name, outcome, address)


def record(view: View, name: str, outcome: str, address: str) -> None:
    """One line of the audit log: who did what to what, from where, and how it went. Fields are redacted as all logs
    are, and cut."""
    said = view.page.actions.get(name)
    private = said.private if said is not None else tuple(view.form)
    audit.info(
        names.LOG_OPERATED,
        who=view.visitor.name,
        role=view.visitor.role.name.lower(),
        address=address,
        page=view.path,
        action=name,
        outcome=outcome,
        fields={key: value[:_WORDS_MAX] for key, value in view.form.items() if key not in private},
    )


def signed_in(found: Visitor | str, address: str) -> None:
    """Write down that somebody signed in, or could not."""
    if isinstance(found, Visitor):
        audit.info(names.LOG_SIGNED_IN, who=found.name, role=found.role.name.lower(), address=address)
    else:
        audit.warning(names.LOG_NOT_SIGNED_IN, address=address, why=found)


def _check(view: View, name: str, headers: Mapping[str, str]) -> None:
    if "hx-request" not in headers:
        raise Forbidden("Actions are sent by the dashboard's own pages.")
    if name not in view.page.actions:
        raise NotFound(f"This page has no action {name!r}.")
    if not view.visitor.operates:
        raise Forbidden(READERS)


def _said(sentence: str, mood: str, *, acted: bool = False) -> dict[str, str]:
    events: dict[str, object] = {SAID: {"text": sentence, "mood": mood}}
    if acted:
        events["acted"] = None
    # A header is Latin-1: everything beyond goes as escapes of JSON.
    text = msgspec.json.encode(events).decode()
    return {"HX-Trigger": "".join(c if c.isascii() else _escaped(c) for c in text)}


def _escaped(char: str) -> str:
    units = char.encode("utf-16-be")
    return "".join(f"\\u{units[n]:02x}{units[n + 1]:02x}" for n in range(0, len(units), 2))
