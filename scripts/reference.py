"""Writes docs/reference from the code: its docstrings, its exception tree, its settings.

    python scripts/reference.py          # write the pages
    python scripts/reference.py --check  # say which are out of date; exit status 1 when any is

A test runs the check, so what the pages say is what the code says.
"""

from __future__ import annotations

import ast
import enum
import inspect
import itertools
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import msgspec

import tenfold
import tenfold.errors
import tenfold.testing
from tenfold._core import sections
from tenfold.errors import Problem, TenfoldError
from tenfold.http.operation import Policies

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "reference"
NOTE = "<!-- Written by scripts/reference.py; change the docstrings and run it again. -->\n"

SIGNATURE_MAX = 400

GROUPS = {
    "The app and its parts": "App Service Operation Depends injected Context Priority current Clock Settings",
    "Parameters of an operation": "Path Query Header Cookie Body Form Upload Request WebSocket",
    "Answers": "Reply Response Redirect File Stream EventStream Event ResponseCache",
    "Database and cache": "Database Reader Tx Cache",
    "Background work": "Job JobContext current_job Retry Topic Tick Mailer",
    "Access": "Accounts Authenticator Principal public authenticated roles scopes ensure own",
}


def render() -> dict[str, str]:
    """Every generated page by file name."""
    return {"api.md": api(), "errors.md": errors(), "settings.md": setting_table(), "testing.md": testing()}


# ── api.md, testing.md ──


def api() -> str:
    """The names of ``tenfold``, by subject."""
    grouped = {name for names in GROUPS.values() for name in names.split()}
    others = sorted(set(tenfold.__all__) - grouped - {"__version__"})
    groups = {**GROUPS, "Others": " ".join(others)} if others else GROUPS
    parts = [
        "# Public names\n",
        NOTE,
        "Everything here is imported from `tenfold`. Underscored modules and members may change at any time.\n",
    ]
    for title, names in groups.items():
        parts.append(f"## {title}\n")
        parts += [
            _described(name, getattr(tenfold, name)) for name in names.split() if name in tenfold.__all__
        ]
        if "Operation" in names.split():
            options = _fields(Policies)
            parts += [
                "### Options of an operation\n",
                "For `service.get`, `post`, `put`, `patch`, `delete`.\n",
                *options,
            ]
    return "\n".join(parts)


def testing() -> str:
    """The names of ``tenfold.testing``."""
    parts = [
        "# Names for tests\n",
        NOTE,
        "Imported from `tenfold.testing`. [The guide](../guides/testing.md).\n",
    ]
    parts += [_described(name, getattr(tenfold.testing, name)) for name in tenfold.testing.__all__]
    return "\n".join(parts)


def _described(name: str, thing: Any) -> str:
    if inspect.isclass(thing) and issubclass(thing, enum.Enum):
        values = ", ".join(f"`{each.name}`" for each in thing)
        return f"### {name}\n\n{_markdown(inspect.getdoc(thing) or '')}\n\nOne of {values}.\n"
    if not inspect.isclass(thing) and not inspect.isfunction(thing):
        return f"### {name}\n\n{_markdown(_doc_of_value(name, thing))}\n"
    lines = [f"### {name}\n", f"`{name}{_signature(thing)}`\n", f"{_markdown(inspect.getdoc(thing) or '')}\n"]
    if inspect.isclass(thing):
        lines += _fields(thing)
        lines += [_member(key, value) for key, value in _members(thing)]
    return "\n".join(lines)


def _members(cls: type) -> Iterator[tuple[str, Any]]:
    """Public methods and properties with a docstring, in the order in which they are written; bases last."""
    seen: set[str] = set()
    for base in cls.__mro__:
        if not base.__module__.startswith("tenfold"):
            continue
        for key, value in vars(base).items():
            inner = value.__func__ if isinstance(value, classmethod | staticmethod) else value
            documented = isinstance(inner, property) or inspect.isfunction(inner)
            if key.startswith("_") or key in seen or not documented or not inspect.getdoc(inner):
                continue
            if _internal(base, inner):
                continue
            seen.add(key)
            yield key, inner


def _internal(cls: type, member: Any) -> bool:
    """Whether it stands below a comment ``# ── for the app …`` of its class: public for other packages only."""
    function = member.fget if isinstance(member, property) else inspect.unwrap(member)
    lines, first = inspect.getsourcelines(cls)
    for line in reversed(lines[: function.__code__.co_firstlineno - first]):
        if line.strip().startswith("# ── "):
            return line.strip().startswith("# ── for the ")
    return False


def _member(key: str, value: Any) -> str:
    call = "" if isinstance(value, property) else _signature(value)
    prefix = "await " if inspect.iscoroutinefunction(value) else ""
    doc = textwrap.indent(_markdown(inspect.getdoc(value) or ""), "  ").strip()
    return f"- `{prefix}{key}{call}`: {doc}\n"


def _fields(cls: type) -> list[str]:
    """Documented fields of a Struct or dataclass."""
    docs = _attribute_docs(cls)
    return [f"- `{key}`: {_markdown(doc)}\n" for key, doc in docs.items() if not key.startswith("_")]


def _signature(thing: Callable[..., Any]) -> str:
    try:
        signature = inspect.signature(thing)
    except (TypeError, ValueError):
        return ""
    kept = [p for p in signature.parameters.values() if p.name not in ("self", "cls")]
    shown = [p.replace(annotation=inspect.Parameter.empty) for p in kept if not p.name.startswith("_")]
    text = str(inspect.Signature(shown))
    text = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", text)
    text = re.sub(r"<[^<>]* at 0x[0-9a-f]+>", "…", text).replace("=UNSET", "=…")
    text = re.sub(r"<(\w+\.\w+): \w+>", r"\1", text)
    return "" if text == "(*args, **kwargs)" else text if len(text) <= SIGNATURE_MAX else "(…)"


def _doc_of_value(name: str, value: Any) -> str:
    """The string below a module's assignment, such as that of ``public``."""
    module = sys.modules[f"tenfold.{tenfold._HOMES[name]}"]
    return _docs_below(ast.parse(inspect.getsource(module)).body).get(name, type(value).__doc__ or "")


def _attribute_docs(cls: type) -> dict[str, str]:
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    node = tree.body[0]
    return _docs_below(node.body) if isinstance(node, ast.ClassDef) else {}


def _docs_below(body: list[ast.stmt]) -> dict[str, str]:
    """Names assigned in ``body`` with the string that stands below the assignment."""
    found: dict[str, str] = {}
    for statement, following in itertools.pairwise(body):
        target = statement.targets[0] if isinstance(statement, ast.Assign) else None
        target = statement.target if isinstance(statement, ast.AnnAssign) else target
        said = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
        if isinstance(target, ast.Name) and said:
            found[target.id] = inspect.cleandoc(str(following.value.value))  # type: ignore[attr-defined]
    return found


def _markdown(doc: str) -> str:
    """A docstring as Markdown: roles and double backquotes are code, ``::`` announces an indented block."""
    doc = re.sub(r":\w+:`~?([^`]+)`", lambda m: f"`{m[1].rpartition('.')[2] if '~' in m[0] else m[1]}`", doc)
    doc = re.sub(r"``(.+?)``", r"`\1`", doc)
    doc = re.sub(r"^(\s*)\* ", r"\1- ", doc, flags=re.MULTILINE)
    return re.sub(r"::$", ":", doc, flags=re.MULTILINE)


# ── errors.md ──


def errors() -> str:
    """The exception tree and the problem types."""
    tree = inspect.getdoc(tenfold.errors) or ""
    parts = [
        "# Errors\n",
        NOTE,
        "Everything here is in `tenfold.errors`.\n",
        *("\n".join(_markdown(tree).splitlines()[2:]).split("\n\n")[:-1]),
        "\n## Problems\n",
        "What a client gets, as `application/problem+json`\n([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)). "
        "`type` is `urn:tenfold:problem:` and the kind.\n",
        "| class | status | kind | title |\n| --- | --- | --- | --- |",
    ]
    problems = sorted(_below(Problem), key=lambda c: (c.status, c.kind))
    parts += [f"| `{c.__name__}` | {c.status} | `{c.kind}` | {c.title} |" for c in problems if _own(c)]
    parts.append("\n## What each means\n")
    told = [cls for cls in _below(TenfoldError) if _own(cls) and cls.__doc__]
    for cls in sorted(told, key=lambda cls: tree.index(f" {cls.__name__}")):
        about = _markdown(" ".join(inspect.cleandoc(cls.__doc__).split()))
        parts.append(f"- `{cls.__name__}`: {about}")
    return "\n".join(parts) + "\n"


def _own(cls: type) -> bool:
    return cls.__module__ == "tenfold.errors"


def _below(cls: type) -> Iterator[Any]:
    for sub in cls.__subclasses__():
        yield sub
        yield from _below(sub)


# ── settings.md ──


def setting_table() -> str:
    """Every setting with its type, default and variable."""
    parts = [
        "# Settings\n",
        NOTE,
        "In `tenfold.toml`, or as the variable `TENFOLD_` + the path in capitals: `http.port` is\n"
        "`TENFOLD_HTTP_PORT`. `tenfold config` prints the values of an app and where each came from.\n"
        "[The guide](../guides/settings.md).\n",
    ]
    for section, name in _sections():
        head = inspect.getdoc(section) or ""
        parts.append(f"## {name}\n")
        if name.endswith(".NAME"):
            parts.append(f"Below `{name.removesuffix('.NAME')}`, as many as you name.\n")
        about = head.partition(":")[2].strip()
        if about:
            parts.append(f"{about[:1].upper()}{about[1:]}.\n")
        parts.append("| setting | type | default | |\n| --- | --- | --- | --- |")
        docs = _attribute_docs(section)
        for each in msgspec.structs.fields(section):
            about = _markdown(" ".join(docs.get(each.name, "").split())).replace("|", "\\|")
            parts.append(f"| `{name}.{each.name}` | {_type(each.type)} | {_default(each)} | {about} |")
        parts.append("")
    return "\n".join(parts)


def _sections() -> Iterator[tuple[type[msgspec.Struct], str]]:
    """Each section of the settings and what it is called; one per name is called ``queues.NAME``."""
    for field in msgspec.structs.fields(sections.Settings):
        kept = get_args(field.type)[-1] if get_origin(field.type) is dict else field.type
        if isinstance(kept, type) and issubclass(kept, msgspec.Struct):
            yield kept, field.name if kept is field.type else f"{field.name}.NAME"


def _type(type_: Any) -> str:
    if type_ in _NAMED:
        return _NAMED[type_]
    args = [a for a in get_args(type_) if a is not type(None)]
    if str(get_origin(type_)).endswith("Literal"):
        return " or ".join(f"`{a}`" for a in args)
    if args and get_origin(type_) is list:
        return f"list of {_type(args[0])}"
    if len(args) == 1:
        return _type(args[0])
    if args and isinstance(args[0], type):
        return _type(args[0])
    return {"str": "text", "int": "integer", "float": "number", "bool": "boolean"}.get(
        type_.__name__, str(type_)
    )


_NAMED: dict[Any, str] = {
    sections.Port: "port",
    sections.Seconds: "seconds",
    sections.Count: "integer from 1",
}


def _default(field: Any) -> str:
    default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    if default is None or default == "":
        return ""
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def main(arguments: list[str]) -> int:
    """Write the pages, or check them."""
    check, stale = "--check" in arguments, []
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in render().items():
        page = FOLDER / name
        if not page.exists() or page.read_text(encoding="utf-8") != text:
            stale.append(name)
            if not check:
                page.write_text(text, encoding="utf-8")
    print(f"{'out of date' if check else 'written'}: {', '.join(stale) or 'nothing'}")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
