"""One operation as a method of a Python client."""

from __future__ import annotations

import keyword
from collections.abc import Iterator, Sequence

from tenfold.clients import naming
from tenfold.clients.model import Call, Field, Parameter, Result, Type, Union
from tenfold.clients.python_types import PythonTypes, documented_lines, literal, or_unset
from tenfold.clients.text import exploded, plain, surroundings, wrapped

_TAKEN = frozenset({"self", "timeout_s", "idempotency_key"})


class Method:
    """Renders one operation; ``prefix`` is ``Async`` for asyncio."""

    def __init__(self, call: Call, types: PythonTypes, prefix: str) -> None:
        self._call, self._types, self._prefix = call, types, prefix
        raw = call.body is not None and call.body.kind == "raw"
        taken = [*_TAKEN, *(("body", "media_type") if raw else ())]
        self._names: dict[int, str] = {}
        fields: tuple[Field, ...] = call.body.fields if call.body else ()
        every: list[Field | Parameter] = [*call.parameters, *fields]
        for each in every:
            name = naming.unique(method_name(each.wire), taken)
            taken.append(name)
            self._names[id(each)] = name
        self._fields: tuple[Field, ...] = fields

    def render(self) -> str:
        call, is_async = self._call, bool(self._prefix)
        events = call.result.kind == "events"
        returns = self._returns(call.result)
        word = "async def" if is_async and not events else "def"
        head = exploded(
            f"{word} {method_name(call.name)}", ["self", *self._arguments()], f" -> {returns}:", 4
        )
        wait = "await " if is_async and not events else ""
        sent = exploded("call = _Call", list(self._sent()), "", 8)
        return "\n".join([head, *self._doc(), sent, f"        {self._answer(wait)}"])

    def pages(self, name: str) -> str:
        """The method that goes through the items of all pages."""
        call, is_async = self._call, bool(self._prefix)
        assert call.result.item is not None
        kept = [each for each in self._arguments() if not each.startswith("page:")]
        item, page = self._types.name(call.result.item), self._types.name(call.result.type)
        kind = "AsyncIterator" if is_async else "Iterator"
        word, wait = ("async def", "await ") if is_async else ("def", "")
        head = exploded(f"{word} {name}", ["self", *kept], f" -> {kind}[{item}]:", 4)
        call_of = exploded(f"page = {wait}self.{method_name(call.name)}", list(_passed(kept)), "", 8)
        each = ["            for item in page.items:", "                yield item"]
        lines = [
            head,
            f'        """Every item of all pages of `{method_name(call.name)}`, asked for as needed."""',
            call_of,
            "        while True:",
            *(each if is_async else ["            yield from page.items"]),
            "            if page.next is None:",
            "                return",
            '            call = _Call("GET", _link(page.next), timeout_s=timeout_s)',
            f"            page = {wait}self._http.send(call, {page})",
        ]
        return "\n".join(lines)

    # ── the signature ──

    def _arguments(self) -> list[str]:
        call = self._call
        placed = [
            f"{self._names[id(p)]}: {self._types.name(p.type)}" for p in call.parameters if p.place == "path"
        ]
        body = call.body
        if body is not None and body.kind == "json":
            (field,) = body.fields
            kind = self._types.name(field.type)
            placed.append(f"{self._names[id(field)]}: {kind}" + ("" if body.required else " | None = None"))
        if body is not None and body.kind == "raw":
            placed += ['body: bytes = b""', 'media_type: str = "application/json"']
        return [*placed, "*", *self._keywords(), "timeout_s: float | None = None"]

    def _keywords(self) -> Iterator[str]:
        call = self._call
        optional: list[str] = []
        for each in call.parameters:
            if each.place != "path":
                kind = self._types.name(each.type)
                if each.required:
                    yield f"{self._names[id(each)]}: {kind}"
                else:
                    optional.append(f"{self._names[id(each)]}: {_or_none(kind)} = None")
        if call.body is not None and call.body.kind in ("members", "form", "multipart"):
            for field in self._fields:
                kind, missing = self._types.name(field.type), call.body.kind == "members"
                if field.required:
                    yield f"{self._names[id(field)]}: {kind}"
                elif missing:
                    self._types.used |= {"UNSET", "UnsetType", "Struct"}
                    optional.append(f"{self._names[id(field)]}: {or_unset(kind)} = UNSET")
                else:
                    optional.append(f"{self._names[id(field)]}: {_or_none(kind)} = None")
        yield from optional
        if call.keyed:
            yield "idempotency_key: str | None = None"

    def _returns(self, result: Result) -> str:
        match result.kind:
            case "json":
                return self._types.name(result.type)
            case "events":
                kind = "AsyncIterator" if self._prefix else "Iterator"
                return f"{kind}[ServerEvent[{self._types.name(result.type)}]]"
            case other:
                return {"nothing": "None", "download": "Download", "location": "str"}[other]

    def _doc(self) -> Iterator[str]:
        call = self._call
        lines = wrapped(call.about, 14)
        if facts := " ".join(surroundings(call, "Raises")):
            lines += ["", *wrapped(facts, 8)]
        if told := list(self._told()):
            lines += ["", "Args:", *told]
        return documented_lines(lines, 8)

    def _told(self) -> Iterator[str]:
        """A line for each argument that has something to be said about it."""
        every: list[Field | Parameter] = [*self._call.parameters, *self._fields]
        for each in every:
            text = plain(each.about).split("\n\n")[0]
            if each.default not in (None, "") and isinstance(each, Parameter) and not each.required:
                text = f"{text} Default: {each.default}.".strip() if _is_plain(each.default) else text
            if text:
                first, *rest = wrapped(f"{self._names[id(each)]}: {text}", 12)
                yield f"    {first}"
                yield from (f"        {line}" for line in rest)

    # ── the body ──

    def _sent(self) -> Iterator[str]:
        call = self._call
        yield literal(call.method)
        yield self._path()
        for place, word in (("query", "query"), ("header", "headers"), ("cookie", "cookies")):
            if pairs := [each for each in call.parameters if each.place == place]:
                yield self._pairs(f"{word}=_values", pairs)
        if call.keyed:
            yield "key=idempotency_key or uuid4().hex"
        yield from self._content()
        yield "timeout_s=timeout_s"

    def _content(self) -> Iterator[str]:
        body = self._call.body
        match body.kind if body else "":
            case "json":
                name = self._names[id(self._fields[0])]
                whole = f"_json({name})"
                yield (
                    f"content={whole}"
                    if body and body.required
                    else f"content=None if {name} is None else {whole}"
                )
                yield 'media_type="application/json"'
            case "members":
                yield f"content=_json(_members({', '.join(self._members())}))"
                yield 'media_type="application/json"'
            case "form":
                yield self._pairs("form=_values", self._fields)
                yield 'media_type="application/x-www-form-urlencoded"'
            case "multipart":
                files = [field for field in self._fields if _is_file(field)]
                if rest := [field for field in self._fields if not _is_file(field)]:
                    yield self._pairs("form=_values", rest)
                yield self._pairs("files=_files", files)
            case "raw":
                yield "content=body"
                yield "media_type=media_type"
            case _:
                pass

    def _members(self) -> Iterator[str]:
        plain_names = all(
            field.wire.isidentifier() and not keyword.iskeyword(field.wire) for field in self._fields
        )
        if plain_names:
            yield from (f"{field.wire}={self._names[id(field)]}" for field in self._fields)
        else:
            pairs = ", ".join(f"{literal(field.wire)}: {self._names[id(field)]}" for field in self._fields)
            yield f"**{{{pairs}}}"

    def _pairs(self, head: str, fields: Sequence[Field | Parameter]) -> str:
        pairs = [f"({literal(field.wire)}, {self._names[id(field)]})" for field in fields]
        return exploded(head, pairs, "", 12, room=1).strip()

    def _path(self) -> str:
        path, dynamic = self._call.path, False
        for each in self._call.parameters:
            if each.place == "path":
                how = "_rest_of_path" if each.slashes else "_segment"
                path = path.replace(f"{{{each.wire}}}", f"{{{how}({self._names[id(each)]})}}")
                dynamic = True
        return f"f{literal(path)}" if dynamic else literal(path)

    def _answer(self, wait: str) -> str:
        result = self._call.result
        match result.kind:
            case "json" | "events":
                verb = "send" if result.kind == "json" else "events"
                return f"return {wait}self._http.{verb}(call, {self._kind(result.type)})"
            case "nothing":
                return f"{wait}self._http.do(call)"
            case "download":
                return f"return {wait}self._http.load(call)"
            case "location":
                return f"return {wait}self._http.location(call)"

    def _kind(self, type_: Type) -> str:
        """The type as a value. Checkers take only classes for one."""
        name = self._types.name(type_)
        return name if self._types.is_class(type_) else f'cast("Any", {name})'


def method_name(text: str) -> str:
    name = naming.snake(text)
    return f"{name}_" if keyword.iskeyword(name) else name


def iterator_name(name: str) -> str:
    return "iter_" + name.removeprefix("list_").removeprefix("get_")


def _or_none(kind: str) -> str:
    return kind if kind == "Any" or kind.endswith("| None") else f"{kind} | None"


def _passed(arguments: Sequence[str]) -> Iterator[str]:
    """The same arguments, handed on."""
    keywords = False
    for each in arguments:
        name = each.partition(":")[0]
        if each == "*":
            keywords = True
        else:
            yield f"{name}={name}" if keywords else name


def _is_file(field: Field) -> bool:
    options = field.type.options if isinstance(field.type, Union) else (field.type,)
    return any(getattr(getattr(each, "item", each), "kind", "") == "file" for each in options)


def _is_plain(value: object) -> bool:
    return isinstance(value, (str, int, float))
