"""Writes docs/reference/support.md: what every backend declares, and what it says that it weakens.

    python scripts/matrix.py

A test runs :func:`render` and compares. The table comes from the code: the fields of each ``Capabilities`` with
their docstrings, what the backends declare, and their modules' docstrings.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import pkgutil
import re
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from tenfold._core import sections
from tenfold._core.clock import SystemClock
from tenfold._core.resolve import ALIASES

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reference" / "support.md"

HEAD = """# Support matrix

*Written by `scripts/matrix.py` from what the backends declare; a test checks that it is up to date.*

A backend is chosen by the scheme of a URL in the settings. All backends of a capability pass the same
conformance suite ([how to write one](../guides/backends.md)); where they differ, they declare it, and this page
lists it. Nothing else differs.
"""


class Capability(NamedTuple):
    """One package with backends: what its suite is called, and a URL per scheme that is good enough to be asked."""

    package: str
    title: str
    suite: str
    setting: str


CAPABILITIES = (
    Capability("db", "Databases", "DatabaseConformance", "database.url"),
    Capability("queue", "Queues", "QueueConformance", "database.url"),
    Capability("cache", "Caches", "CacheConformance", "cache.url"),
    Capability("events", "Brokers", "BrokerConformance", "events.url"),
    Capability("guard", "Limits, leases, idempotency keys, sessions", "LimitsConformance …", "guard.url"),
)
URLS = {
    "sqlite": "sqlite:///app.db", "postgresql": "postgresql://user@host/db", "mysql": "mysql://user@host/db",
    "redis": "redis://host", "memcached": "memcached://host:11211", "memory": "memory:",
    "rabbitmq": "rabbitmq://host", "kafka": "kafka://host", "nats": "nats://host", "sqs": "sqs://eu-central-1",
}  # fmt: skip


def render() -> str:
    """The page."""
    parts = [HEAD]
    for capability in CAPABILITIES:
        modules = backends(capability.package)
        if modules:
            parts.append(section(capability, modules))
    return "\n".join(parts)


def backends(package: str) -> dict[str, Any]:
    """Scheme to module."""
    folder = importlib.import_module(f"tenfold.{package}.backends")
    names = sorted(m.name for m in pkgutil.iter_modules(folder.__path__) if not m.name.startswith("_"))
    modules = {name: importlib.import_module(f"{folder.__name__}.{name}") for name in names}
    return {name: module for name, module in modules.items() if hasattr(module, "Backend")}


def section(capability: Capability, modules: dict[str, Any]) -> str:
    """One capability: a table of what is declared, then a paragraph for each backend."""
    out = [f"## {capability.title}", "", f"Setting `{capability.setting}`, suite `{capability.suite}`.", ""]
    declared = {
        name: made for name, m in modules.items() if (made := declared_by(capability.package, name, m))
    }
    if declared:
        out += table(declared)
    for name, module in modules.items():
        schemes = ", ".join(
            f"`{scheme}://`" for scheme in (name, *(a for a, n in ALIASES.items() if n == name))
        )
        out += [
            f"### {name}",
            "",
            f"{schemes if '/' in URLS.get(name, '') else f'`{name}:`'}",
            "",
            prose(module),
            "",
        ]
    return "\n".join(out)


def declared_by(package: str, name: str, module: Any) -> Any:
    """The ``Capabilities`` of a backend that is made and not started, or None where there are none."""
    make = getattr(module.Backend, "from_url", None)
    if make is None:
        return None
    given: dict[str, Any] = {"clock": SystemClock(), "data_dir": Path(tempfile.gettempdir())}
    chosen = {"db": "Database", "cache": "Cache", "guard": "Guard", "events": "Events"}[package] + "Settings"
    given["settings"] = getattr(sections, chosen)(url=URLS[name])
    wanted = inspect.signature(make).parameters
    made = make(URLS[name], **{key: value for key, value in given.items() if key in wanted})
    return getattr(made, "capabilities", None)


def table(declared: dict[str, Any]) -> list[str]:
    """A row per field of the capabilities."""
    type_ = type(next(iter(declared.values())))
    meanings = field_docs(type_)
    names = _fields(type_)
    rows = [f"| | {' | '.join(declared)} |", "| --- " * (len(declared) + 1) + "|"]
    for field in names:
        values = " | ".join(_shown(getattr(made, field)) for made in declared.values())
        rows.append(f"| **{field}**: {meanings.get(field, '')} | {values} |")
    return [*rows, ""]


def _fields(type_: Any) -> list[str]:
    if issubclass(type_, msgspec.Struct):
        return list(type_.__struct_fields__)
    return [field.name for field in dataclasses.fields(type_)]


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def field_docs(type_: type) -> dict[str, str]:
    """The string under each field of a class, on one line."""
    body = ast.parse(textwrap.dedent(inspect.getsource(type_))).body[0]
    assert isinstance(body, ast.ClassDef)
    docs: dict[str, str] = {}
    for field, text in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
        ):
            assert isinstance(text.value, ast.Constant)
            docs[field.target.id] = _plain(" ".join(str(text.value.value).split())).replace("|", "\\|")
    return docs


def prose(module: Any) -> str:
    """A module's docstring as Markdown."""
    return _plain(inspect.getdoc(module) or "")


def _plain(text: str) -> str:
    text = re.sub(r"(?<![\w/`]):\w+:`~?([^`]+)`", lambda found: f"`{found[1].rpartition('.')[2]}`", text)
    text = text.replace("``", "`")
    return re.sub(r"::\n\n((?:    .*\n?|\n)+)", _fenced, text)


def _fenced(found: re.Match[str]) -> str:
    return f":\n\n```\n{textwrap.dedent(found[1]).strip()}\n```\n"


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}", file=sys.stderr)
