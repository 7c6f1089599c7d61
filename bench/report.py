"""Results for people: tables on the terminal, and docs/benchmarks.md."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from figures import Rows, Table
from parts import PARTS, Part
from rich import table as rich_table
from rich.console import Console

_VERSIONS = "Versions"
STYLES = {"✓": "green", "✗": "red", "?": "yellow"}


def show(part: Part, rows: Rows) -> None:
    """Every table of a part."""
    console = Console()
    console.print(f"[bold]{part.title}[/bold]")
    for caption, table in part.tables(rows):
        console.print(_printed(caption, table))


def write(out: Path, to: Path) -> None:
    """docs/benchmarks.md: a section anew for every result that is there, the others as they stand, since the results are on the
    machine that measured them."""
    kept = {p: json.loads((out / f"{p}.json").read_text()) for p in PARTS if (out / f"{p}.json").exists()}
    sections = _sections(to.read_text()) if to.exists() else {}
    for name, found in kept.items():
        sections[PARTS[name].title] = "\n".join(_section(name, found, to.parent / "plots"))
    if kept:
        newest = max(kept.values(), key=lambda found: str(found["at"]))
        versions = ", ".join(f"{name} {version}" for name, version in newest["versions"].items())
        sections[_VERSIONS] = f"## {_VERSIONS}\n\n{versions}\n"
    titles = [*(part.title for part in PARTS.values()), _VERSIONS]
    to.write_text("\n".join([_INTRODUCTION, *(sections[title] for title in titles if title in sections)]))
    print(f"wrote {to}")


def _sections(text: str) -> dict[str, str]:
    """By title, from its line on."""
    found = re.split(r"^(?=## )", text, flags=re.MULTILINE)[1:]
    return {each.partition("\n")[0].removeprefix("## "): each.rstrip("\n") + "\n" for each in found}


def _section(name: str, kept: dict[str, Any], plots: Path) -> list[str]:
    part = PARTS[name]
    text = [
        f"## {part.title}\n",
        part.about,
        f"Measured {kept['at']} UTC on {kept['machine']}; load average {kept['load']} at the end.\n",
    ]
    if part.plot:
        part.plot(kept["found"], plots / f"{name}.svg")
        text.append(f"![{part.pictured}](plots/{name}.svg)\n")
    for caption, table in part.tables(kept["found"]):
        text += [f"{caption}\n"] if caption else []
        text.append(_markdown(table))
    return text


def _printed(caption: str, table: Table) -> rich_table.Table:
    head, lines = table
    made = rich_table.Table(title=caption, title_justify="left")
    for i, name in enumerate(head):
        made.add_column(name, justify="left" if i == 0 else "right")
    for cells in lines:
        made.add_row(*cells, style=STYLES.get(cells[0]))
    return made


def _markdown(table: Table) -> str:
    head, lines = table
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows) + "\n"


_INTRODUCTION = """# Benchmarks

Written by `make bench`. Absolute figures belong to the machine that they were measured on; compare the ratios,
which are formed within one run.
"""
