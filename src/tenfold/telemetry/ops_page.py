"""The index page of the operations listener. No script, no foreign origin: it works on an island."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final, Literal, NamedTuple

from tenfold.telemetry.health import CheckResult, Readiness

STYLE: Final = """
:root { color-scheme: light dark; --ink: #1c2230; --soft: #5d6678; --paper: #f6f7f9; --card: #fff;
  --line: #e1e5eb; --accent: #2f5fd7; --good: #18794e; --bad: #c4320a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9f0; --soft: #98a2b5; --paper: #12151c;
  --card: #1a1f2a; --line: #2a3140; --accent: #8fb0ff; --good: #4cc38a; --bad: #ff9472; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 46rem; margin: 0 auto; padding: 3rem 1.25rem; }
h1 { font-size: 1.6rem; margin: 0 0 .25rem; letter-spacing: -.01em; }
h2 { font-size: .8rem; margin: 2.25rem 0 .6rem; text-transform: uppercase; letter-spacing: .08em;
  color: var(--soft); font-weight: 600; }
p { margin: 0; color: var(--soft); }
a { color: var(--accent); text-decoration: none; font-weight: 600; }
a:hover, a:focus-visible { text-decoration: underline; }
ul { list-style: none; margin: 0; padding: 0; background: var(--card); border: 1px solid var(--line);
  border-radius: 10px; overflow: hidden; }
li { padding: .75rem 1rem; border-top: 1px solid var(--line); display: grid; gap: 0 1rem;
  grid-template-columns: 9rem 1fr; }
li:first-child { border-top: 0; }
li span { color: var(--soft); overflow-wrap: anywhere; }
.wide { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .55rem 1rem; border-top: 1px solid var(--line); }
thead th { border-top: 0; color: var(--soft); font-weight: 600; font-size: .85rem; white-space: nowrap; }
.wide + p { margin-top: .6rem; }
.number { text-align: right; }
.good { color: var(--good); font-weight: 600; } .bad { color: var(--bad); font-weight: 600; }
@media (max-width: 32rem) { li { grid-template-columns: 1fr; } }
"""
"""Shared by the pages of the operations listener, so that they look like one place."""


class Link(NamedTuple):
    """One entry of the index."""

    title: str
    href: str
    about: str


class Mood(NamedTuple):
    """A cell that is good or bad news."""

    text: str
    mood: Literal["good", "bad"]


Cell = str | int | float | Mood


def page(title: str, body: str) -> str:
    """A whole document around ``body``, which is HTML already."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>{body}</main></body></html>\n"
    )


def table(headings: Sequence[str], rows: Sequence[Sequence[Cell]], *, empty: str) -> str:
    """Rows under headings; numbers stand to the right. Without rows, the sentence ``empty``."""
    if not rows:
        return f"<p>{escape(empty)}</p>"
    numeric = [all(isinstance(row[n], (int, float)) for row in rows) for n in range(len(headings))]
    head = "".join(
        f"<th{' class=number' * right}>{escape(text)}</th>"
        for text, right in zip(headings, numeric, strict=True)
    )
    body = "".join(
        "<tr>" + "".join(_cell(cell, right) for cell, right in zip(row, numeric, strict=True)) + "</tr>"
        for row in rows
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(cell: Cell, right: bool) -> str:
    if isinstance(cell, Mood):
        return f'<td class="{cell.mood}">{escape(cell.text)}</td>'
    shown = f"{cell:,}" if isinstance(cell, (int, float)) else escape(cell)
    return f"<td{' class=number' * right}>{shown}</td>"


def index_page(title: str, readiness: Readiness, links: Sequence[Link], uptime_s: float) -> str:
    """What is up, and where to look."""
    mood = "good" if readiness.ready else "bad"
    parts = [
        f"<h1>{escape(title)} operations</h1>",
        f'<p><span class="{mood}">{escape(readiness.sentence)}</span> Up for {duration(uptime_s)}.</p>',
        "<h2>Pages</h2><ul>",
        *(
            f'<li><a href="{escape(link.href)}">{escape(link.title)}</a><span>{escape(link.about)}</span></li>'
            for link in links
        ),
        "</ul>",
    ]
    if readiness.checks:
        parts += ["<h2>Checks</h2><ul>", *map(_check, readiness.checks), "</ul>"]
    return page(f"{title} operations", "".join(parts))


def _check(check: CheckResult) -> str:
    mood = "good" if check.ok else "bad"
    return f'<li><b class="{mood}">{escape(check.name)}</b><span>{escape(check.sentence)}</span></li>'


def duration(seconds: float) -> str:
    """``1.5 h``: in the largest unit that there is one of."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
