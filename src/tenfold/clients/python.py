"""The Python client: one module with a class for ordinary code and one for asyncio.

It needs httpx2 and msgspec where it is used, and nothing of Tenfold. Everything in it that is the same for every API
stands in ``templates/python.txt``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import resources

from tenfold.clients import naming
from tenfold.clients.model import Api, Group, ProblemKind
from tenfold.clients.python_methods import Method, iterator_name, method_name
from tenfold.clients.python_types import PythonTypes, documented_lines, literal
from tenfold.clients.text import sentence, wrapped

_HTTP = {"": "_Http", "Async": "_AsyncHttp"}
_HELPERS = {
    "_json(": '''def _json(value: Any) -> bytes:
    """A body."""
    return msgspec.json.encode(value)''',
    "_members(": '''def _members(**members: Any) -> dict[str, Any]:
    """Those that were given."""
    return {k: v for k, v in members.items() if v is not msgspec.UNSET}''',
    "_rest_of_path(": '''def _rest_of_path(value: Any) -> str:
    """A value that may have slashes in it."""
    return "/".join(map(_segment, _text(value).split("/")))''',
    "_link(": '''def _link(path: str) -> str:
    """The link to the next page. Credentials are sent nowhere else."""
    if not path.startswith("/") or path.startswith("//"):
        raise UnexpectedReply(f"{path!r} leads elsewhere.", status=200)
    return path''',
    "_files(": '''def _files(*pairs: tuple[str, Any]) -> tuple[tuple[str, File], ...]:
    """The files of a form; what is None is left out."""
    found: list[tuple[str, File]] = []
    for name, value in pairs:
        for each in value if isinstance(value, (list, tuple)) else (value,):
            if each is not None:
                found.append((name, _file(name, each)))
    return tuple(found)


def _file(name: str, given: Upload) -> File:
    if isinstance(given, File):
        return given
    if isinstance(given, bytes):
        return File(name, given)
    return File(given.name, given.read_bytes())''',
}
"""What only some APIs need, by how its use looks."""
_KINDS = {
    "File": '''class File(msgspec.Struct, frozen=True):
    """A file to send: its name, what is in it, and its type."""

    name: str
    content: bytes
    media_type: str = "application/octet-stream"''',
    "Upload": "Upload: TypeAlias = bytes | Path | File\n"
    '"""What can be sent as a file: the content, a path to it, or all that is known of it."""',
    "Download": '''class Download(msgspec.Struct, frozen=True):
    """A file that was received, whole."""

    content: bytes
    media_type: str''',
    "ServerEvent": '''class ServerEvent(msgspec.Struct, Generic[T], frozen=True):
    """One event of a stream."""

    data: T
    event: str = ""
    id: str = ""''',
}


def render(api: Api) -> tuple[str, list[str]]:
    """The text of the module, and sentences about what it cannot express. The same API gives the same text."""
    return _Module(api).render()


def file_name(api: Api) -> str:
    """What the module is called unless somebody says otherwise."""
    return f"{naming.snake(api.title)}_client.py"


class _Module:
    def __init__(self, api: Api) -> None:
        self._api = api
        self._types = PythonTypes(api)

    def render(self) -> tuple[str, list[str]]:
        services = "\n\n\n".join(
            self._service(group, prefix) for prefix in ("", "Async") for group in self._api.groups
        )
        body = "\n\n\n".join([*self._kinds(), *self._types.declarations()])
        used = services + body
        text = resources.files("tenfold.clients").joinpath("templates/python.txt").read_text(encoding="utf-8")
        helpers = [code for use, code in _HELPERS.items() if use in used]
        parts = {
            "DOC": "\n".join(self._header()),
            "ALL": "\n".join(f'    "{name}",' for name in sorted(self._exported())),
            "PROBLEMS": "\n\n\n".join(map(_problem, self._api.problems)),
            "TYPES": body,
            "SERVICES": services,
            "CLIENT_DOC": "\n".join(self._client_doc()),
            "SYNC_SERVICES": "\n".join(self._attributes("")),
            "ASYNC_SERVICES": "\n".join(self._attributes("Async")),
            "CREDENTIALS": "\n".join(self._credentials("str")),
            "ASYNC_CREDENTIALS": "\n".join(self._credentials("str | Awaitable[str]")),
            "GIVEN": f"{'token' if self._api.bearer else 'None'}, "
            f"{'api_key' if self._api.api_key_header else literal('')}",
            "API_KEY_HEADER": self._api.api_key_header or "X-API-Key",
            "PROBLEM_NAMES": "\n".join(f"    {kind.name}," for kind in self._api.problems),
            "STATUSES": "\n".join(_statuses(self._api.problems)),
            "HELPERS": "\n\n\n".join(helpers),
            "IMPORTS": "\n".join(self._imports(used)),
        }
        for name, value in parts.items():
            text = text.replace(f"@@{name}@@" if value else f"@@{name}@@\n", value)
        return text.rstrip() + "\n", [*self._api.notes, *self._types.notes]

    # ── the frame ──

    def _header(self) -> Iterator[str]:
        yield f"Client of the {self._api.title} API, version {self._api.version}."
        yield ""
        yield "Written by `tenfold client python`; changes here are lost when it is written"
        yield "again. Needs Python 3.11, httpx2 and msgspec."

    def _client_doc(self) -> Iterator[str]:
        yield f'Calls the {self._api.title} API, as in `Client("https://…").…`; close it when done.'
        credentials = {
            "`token`, or what returns one": self._api.bearer,
            "`api_key`": bool(self._api.api_key_header),
        }
        given = [name for name, wanted in credentials.items() if wanted]
        text = (
            "`timeout_s` is for a whole call, with all its `attempts`; the server is told what is left of it. "
            "Only calls that may be repeated are: those that change nothing, change the same twice, or carry an "
            "idempotency key, which the client makes. Close it when it is no longer needed."
        )
        if given:
            text = f"It is known to the server by {' or '.join(given)}. " + text
        yield ""
        yield from (f"    {line}" for line in wrapped(text, 4))

    def _credentials(self, returned: str) -> Iterator[str]:
        if self._api.bearer:
            yield f"        token: str | Callable[[], {returned}] | None = None,"
        if self._api.api_key_header:
            yield '        api_key: str = "",'

    def _attributes(self, prefix: str) -> Iterator[str]:
        for group in self._api.groups:
            yield f"        self.{method_name(group.name)} = {_class(group, prefix)}(self._http)"

    def _exported(self) -> set[str]:
        own = {
            "ApiError",
            "AsyncClient",
            "Client",
            "ConnectionFailed",
            "Problem",
            "TimedOut",
            "UnexpectedReply",
        }
        own |= {"WrongField", "File", "Upload", "Download", "ServerEvent"}
        services = {_class(group, prefix) for group in self._api.groups for prefix in ("", "Async")}
        return own | services | {k.name for k in self._api.problems} | {t.name for t in self._api.types}

    def _kinds(self) -> list[str]:
        return ['T = TypeVar("T")', *_KINDS.values()]

    def _imports(self, used: str) -> Iterator[str]:
        standard = [
            "import asyncio",
            "import contextlib",
            "import random",
            "import time",
            "import urllib.parse",
        ]
        wanted = {"dt.": "import datetime as dt", "enum.": "import enum"}
        standard += [line for use, line in wanted.items() if use in used]
        yield from sorted(standard, key=lambda line: line.split()[1])
        calls = ["AsyncIterator", "Callable", "Iterator"]
        if self._api.bearer:
            calls = ["AsyncIterator", "Awaitable", "Callable", "Iterator"]
        yield f"from collections.abc import {', '.join(calls)}"
        if "Decimal" in self._types.used:
            yield "from decimal import Decimal"
        yield "from pathlib import Path"
        names = ["Any", "ClassVar", "Generic", "Literal", "Self", "TypeAlias", "TypeVar", "cast"]
        kept = {"Literal": "Literal[" in used, "cast": "cast(" in used}
        yield f"from typing import {', '.join(n for n in names if kept.get(n, True))}"
        names = [name for name in ("UUID", "uuid4") if name in self._types.used or f"{name}(" in used]
        if names:
            yield f"from uuid import {', '.join(names)}"
        yield ""
        yield "import httpx2"
        yield "import msgspec"
        if "Struct" in self._types.used:
            names = sorted(self._types.used & {"UNSET", "Struct", "UnsetType", "field"}, key=_import_order)
            yield f"from msgspec import {', '.join(names)}"

    # ── operations ──

    def _service(self, group: Group, prefix: str) -> str:
        about = f"Operations of {group.name}" + (", for asyncio." if prefix else ".")
        lines = [f"class {_class(group, prefix)}:", f'    """{about}"""', ""]
        lines += [f"    def __init__(self, http: {_HTTP[prefix]}) -> None:", "        self._http = http"]
        taken = {method_name(call.name) for call in group.calls}
        for call in group.calls:
            method = Method(call, self._types, prefix)
            lines += ["", method.render()]
            if call.result.item is not None:
                name = naming.unique(iterator_name(call.name), taken)
                taken.add(name)
                lines += ["", method.pages(name)]
        return "\n".join(lines)


def _problem(kind: ProblemKind) -> str:
    text = sentence(kind.about)
    lines = [f"class {kind.name}({kind.base or 'Problem'}):", *documented_lines(wrapped(text, 10), 4)]
    return "\n".join([*lines, "", f"    urn = {literal(kind.urn)}"])


def _statuses(problems: Sequence[ProblemKind]) -> Iterator[str]:
    seen: set[int] = set()
    for kind in problems:
        if not kind.base and kind.status not in seen:
            seen.add(kind.status)
            yield f"    {kind.status}: {kind.name},"


def _class(group: Group, prefix: str) -> str:
    return f"{prefix}{naming.pascal(group.name)}Api"


def _import_order(name: str) -> tuple[bool, bool, str]:
    return not name.isupper(), not name[0].isupper(), name
