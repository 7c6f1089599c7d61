"""The TypeScript client: one module on ``fetch``, for browsers and Node 20 or newer. It needs nothing.

Types describe what is on the wire and are gone at run time: texts of times, decimals and bytes stay texts. Everything in
it that is the same for every API stands in ``templates/typescript.txt``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from importlib import resources

from tenfold.clients import naming
from tenfold.clients.model import NOTHING, Api, Body, Call, Field, Group, Parameter, ProblemKind
from tenfold.clients.text import WIDTH, exploded, plain, sentence, surroundings, wrapped
from tenfold.clients.typescript_types import TypeScriptTypes, comment, key, literal

_WORDS = frozenset(
    [
        "arguments",
        "await",
        "break",
        "case",
        "catch",
        "class",
        "const",
        "continue",
        "debugger",
        "default",
        "delete",
        "do",
        "else",
        "enum",
        "eval",
        "export",
        "extends",
        "false",
        "finally",
        "for",
        "function",
        "if",
        "implements",
        "import",
        "in",
        "instanceof",
        "interface",
        "let",
        "new",
        "null",
        "package",
        "private",
        "protected",
        "public",
        "return",
        "static",
        "super",
        "switch",
        "this",
        "throw",
        "true",
        "try",
        "typeof",
        "var",
        "void",
        "while",
        "with",
        "yield",
    ]
)
_HELPERS = {
    "newKey(": """function newKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}""",
    "segment(": """/** A value as one segment of a path. */
function segment(value: string | number | boolean): string {
  const written = String(value);
  if (["", ".", ".."].includes(written)) throw new RangeError(`"${written}" cannot stand in a path.`);
  return encodeURIComponent(written);
}""",
    "restOfPath(": """/** A value that may have slashes in it. */
function restOfPath(value: string): string {
  return value.split("/").map(segment).join("/");
}""",
    "link(": """/** The link to the next page. Credentials are sent nowhere else. */
function link(path: string): string {
  if (!path.startsWith("/") || path.startsWith("//")) throw new UnexpectedReply(`${path} leads elsewhere.`);
  return path;
}""",
    "multipart(": """function multipart(fields: Values, files: { [name: string]: Blob | readonly Blob[] | undefined }): FormData {
  const form = new FormData();
  for (const [name, value] of pairsOf(fields)) form.append(name, value);
  for (const [name, given] of Object.entries(files)) {
    for (const file of Array.isArray(given) ? given : [given]) {
      if (file !== undefined) form.append(name, file, file instanceof File ? file.name : name);
    }
  }
  return form;
}""",
    "urlencoded(": """function urlencoded(fields: Values): URLSearchParams {
  return new URLSearchParams([...pairsOf(fields)]);
}""",
}
"""What only some APIs need, by how its use looks."""


def render(api: Api) -> tuple[str, list[str]]:
    """The text of the module, and sentences about what it cannot express. The same API gives the same text."""
    return _Module(api).render()


def file_name(api: Api) -> str:
    """What the module is called unless somebody says otherwise."""
    return f"{naming.snake(api.title).replace('_', '-')}-client.ts"


class _Module:
    def __init__(self, api: Api) -> None:
        self._api = api
        self._types = TypeScriptTypes(api)

    def render(self) -> tuple[str, list[str]]:
        services = "\n\n".join(map(self._service, self._api.groups))
        types = "\n\n".join(self._types.declarations())
        text = (
            resources.files("tenfold.clients")
            .joinpath("templates/typescript.txt")
            .read_text(encoding="utf-8")
        )
        names = [(naming.camel(group.name), _class(group)) for group in self._api.groups]
        helpers = [code for use, code in _HELPERS.items() if re.search(rf"(?<!\w){re.escape(use)}", services)]
        if _HELPERS["segment("] not in helpers and _HELPERS["restOfPath("] in helpers:
            helpers.append(_HELPERS["segment("])
        parts = {
            "DOC": "\n".join(self._header()),
            "CREDENTIALS": "\n".join(self._credentials()),
            "SET_CREDENTIALS": "\n".join(self._set_credentials()),
            "OPTIONS": "private readonly options"
            if self._api.bearer or self._api.api_key_header
            else "options",
            "PROBLEMS": "\n\n".join(map(_problem, self._api.problems)),
            "TYPES": types,
            "SERVICES": services,
            "CLIENT_DOC": "\n".join(self._client_doc()),
            "FIELDS": "\n".join(f"  readonly {name}: {kind};" for name, kind in names),
            "ATTRIBUTES": "\n".join(f"    this.{name} = new {kind}(http);" for name, kind in names),
            "BY_TYPE": "\n".join(f"  {literal(kind.urn)}: {kind.name}," for kind in self._api.problems),
            "BY_STATUS": "\n".join(_statuses(self._api.problems)),
            "HELPERS": "\n\n".join(helpers),
        }
        for name, value in parts.items():
            text = text.replace(f"@@{name}@@" if value else f"@@{name}@@\n", value)
        return text.rstrip() + "\n", [*self._api.notes, *self._notes()]

    def _notes(self) -> Iterator[str]:
        for group in self._api.groups:
            for call in group.calls:
                where = f"{group.name}.{call.name}"
                if call.result.kind == "location":
                    yield f"{where} answers with a redirect, which fetch follows: its method tells where that led."
                for each in call.parameters:
                    if each.place == "cookie":
                        yield f"{where} reads the cookie {each.wire}, which browsers send by themselves: it is no argument."

    def _header(self) -> Iterator[str]:
        yield f" * Client of the {self._api.title} API, version {self._api.version}."
        yield " *"
        yield " * Written by `tenfold client typescript`; changes here are lost when it is written again."
        yield " * For browsers and Node 20 or newer; it needs nothing. Whole numbers are exact up to 2^53."

    def _client_doc(self) -> Iterator[str]:
        text = (
            f"Calls the {self._api.title} API, as in `new Client({{ baseUrl }})`. Every call has a time-out, and the "
            "server is told what is left of it. Only calls that may be repeated are: those that change nothing, "
            "change the same twice, or carry an idempotency key, which the client makes."
        )
        yield from (f" * {line}" for line in wrapped(text, 3))

    def _credentials(self) -> Iterator[str]:
        if self._api.bearer:
            yield "  /** The bearer token, or what returns one; it is asked for before each attempt. */"
            yield "  token?: string | (() => string | Promise<string>);"
        if self._api.api_key_header:
            yield f"  /** Sent as `{self._api.api_key_header}`. */"
            yield "  apiKey?: string;"

    def _set_credentials(self) -> Iterator[str]:
        if self._api.bearer:
            yield "    const { token } = this.options;"
            yield '    const given = typeof token === "function" ? await token() : token;'
            yield '    set("Authorization", given && `Bearer ${given}`);'
        if self._api.api_key_header:
            yield f"    set({literal(self._api.api_key_header)}, this.options.apiKey);"

    def _service(self, group: Group) -> str:
        lines = [f"/** Operations of {group.name}. */", f"export class {_class(group)} {{"]
        lines.append("  constructor(private readonly http: Http) {}")
        taken = {_name(call.name) for call in group.calls}
        for call in group.calls:
            method = _Method(call, self._types)
            lines += ["", *method.render()]
            if call.result.item is not None:
                name = naming.unique(_iterator(call.name), taken)
                taken.add(name)
                lines += ["", *method.pages(name)]
        return "\n".join([*lines, "}"])


class _Method:
    """One operation as a method."""

    def __init__(self, call: Call, types: TypeScriptTypes) -> None:
        self._call, self._types = call, types
        self._places = [each for each in call.parameters if each.place == "path"]
        self._values = [each for each in call.parameters if each.place in ("query", "header")]
        body = call.body
        self._whole = body.fields[0] if body is not None and body.kind == "json" else None
        self._parts = body.fields if body is not None and self._whole is None else ()
        raw = body is not None and body.kind == "raw"
        taken = ["options", "values", *(("body", "mediaType") if raw else ())]
        self._names: dict[int, str] = {}
        self._alone: list[Field | Parameter] = [*self._places, *((self._whole,) if self._whole else ())]
        for each in self._alone:
            self._names[id(each)] = naming.unique(_name(each.wire), taken)
            taken.append(self._names[id(each)])
        members_: list[str] = []
        self._inside: list[Field | Parameter] = [*self._values, *self._parts]
        for each in self._inside:
            self._names[id(each)] = naming.unique(naming.camel(each.wire), members_)
            members_.append(self._names[id(each)])

    def render(self) -> list[str]:
        call = self._call
        result = self._types.name(call.result.type)
        returns = {
            "json": f"Promise<{result}>",
            "nothing": "Promise<void>",
            "download": "Promise<Blob>",
            "location": "Promise<string>",
            "events": f"AsyncGenerator<ServerEvent<{result}>, void, undefined>",
        }[call.result.kind]
        verb = {"json": f"send<{result}>", "nothing": "run", "download": "load", "location": "location"}
        verb["events"] = f"events<{result}>"
        head = exploded(_name(call.name), self._arguments(), f": {returns} {{", 2, step=2)
        sent = "\n".join(f"      {line}," for line in self._sent())
        return [
            *comment(self._about(), 2),
            head,
            f"    return this.http.{verb[call.result.kind]}({{",
            sent,
            "    });",
            "  }",
        ]

    def pages(self, name: str) -> list[str]:
        """The method that goes through the items of all pages."""
        call = self._call
        assert call.result.item is not None
        item, page = self._types.name(call.result.item), self._types.name(call.result.type)
        arguments = [each.partition(":")[0].rstrip("?") for each in self._arguments()]
        passed = [each.partition(" =")[0] for each in arguments]
        head = exploded(
            f"async *{name}", self._arguments(), f": AsyncGenerator<{item}, void, undefined> {{", 2
        )
        return [
            f"  /** Every item of all pages of `{_name(call.name)}`, asked for as needed. */",
            head,
            f"    let page = await this.{_name(call.name)}({', '.join(passed)});",
            "    for (;;) {",
            "      yield* page.items;",
            "      if (page.next === null || page.next === undefined) return;",
            f'      page = await this.http.send<{page}>({{ method: "GET", path: link(page.next), options }});',
            "    }",
            "  }",
        ]

    def _arguments(self) -> list[str]:
        call = self._call
        found = [f"{self._names[id(each)]}: {self._types.name(each.type)}" for each in self._places]
        if self._whole is not None:
            optional = "" if call.body is None or call.body.required else " | undefined"
            found.append(f"{self._names[id(self._whole)]}: {self._types.name(self._whole.type)}{optional}")
        if call.body is not None and call.body.kind == "raw":
            found += ['body: Uint8Array<ArrayBuffer> | string = ""', 'mediaType = "application/json"']
        if fields := self._inside:
            kinds = "; ".join(self._member(each) for each in fields)
            default = "" if any(each.required for each in fields) else " = {}"
            one = f"values: {{ {kinds} }}{default}"
            if len(one) + 4 > WIDTH:
                lines = "".join(f"      {self._member(each)};\n" for each in fields)
                one = f"values: {{\n{lines}    }}{default}"
            found.append(one)
        return [*found, f"options: {'KeyedOptions' if call.keyed else 'CallOptions'} = {{}}"]

    def _member(self, each: Field | Parameter) -> str:
        return f"{self._names[id(each)]}{'' if each.required else '?'}: {self._types.name(each.type)}"

    def _about(self) -> list[str]:
        lines = wrapped(self._call.about, 5)
        if facts := " ".join(surroundings(self._call, "Throws")):
            lines += ["", *wrapped(facts, 5)]
        told: list[str] = []
        for each in (*self._alone, *self._inside):
            text = plain(each.about).split("\n\n")[0]
            if isinstance(each, Parameter) and not each.required and each.default not in (None, "", NOTHING):
                text = f"{text} Default: {each.default}.".strip()
            if text:
                place = "values." if each in self._inside else ""
                first, *rest = wrapped(f"@param {place}{self._names[id(each)]} {text}", 5)
                told += [first, *(f"  {line}" for line in rest)]
        if told:
            lines += ["", *told]
        return [*lines, *(["", "@deprecated"] if self._call.deprecated else [])]

    def _sent(self) -> Iterator[str]:
        call = self._call
        yield f"method: {literal(call.method)}"
        yield f"path: {self._path()}"
        for place, word in (("query", "query"), ("header", "headers")):
            if pairs := [
                each for each in self._values if isinstance(each, Parameter) and each.place == place
            ]:
                yield f"{word}: {self._object(pairs)}"
        yield from self._content(call.body)
        if call.keyed:
            yield "key: options.idempotencyKey ?? newKey()"
        yield "options"

    def _content(self, body: Body | None) -> Iterator[str]:
        match body.kind if body else "":
            case "json" if self._whole is not None:
                yield f"json: {self._names[id(self._whole)]}"
            case "members":
                yield f"json: {self._object(self._parts)}"
            case "form":
                yield f"body: urlencoded({self._object(self._parts)})"
            case "multipart":
                files = [field for field in self._parts if self._types.is_file(field.type)]
                rest = [field for field in self._parts if field not in files]
                yield f"body: multipart({self._object(rest)}, {self._object(files)})"
            case "raw":
                yield "body"
                yield "mediaType"
            case _:
                pass

    def _object(self, fields: Iterable[Field | Parameter]) -> str:
        pairs = [f"{key(each.wire)}: values.{self._names[id(each)]}" for each in fields]
        return f"{{ {', '.join(pairs)} }}" if pairs else "{}"

    def _path(self) -> str:
        path = self._call.path
        for each in self._places:
            how = "restOfPath" if each.slashes else "segment"
            path = path.replace(f"{{{each.wire}}}", f"${{{how}({self._names[id(each)]})}}")
        return f"`{path}`" if self._places else literal(path)


def _problem(kind: ProblemKind) -> str:
    doc = comment(wrapped(sentence(kind.about), 3), 0)
    return "\n".join([*doc, f"export class {kind.name} extends {kind.base or 'Problem'} {{}}"])


def _statuses(problems: Iterable[ProblemKind]) -> Iterator[str]:
    seen: set[int] = set()
    for kind in problems:
        if not kind.base and kind.status not in seen:
            seen.add(kind.status)
            yield f"  {kind.status}: {kind.name},"


def _class(group: Group) -> str:
    return f"{naming.pascal(group.name)}Api"


def _name(text: str) -> str:
    name = naming.camel(text)
    return f"{name}_" if name in _WORDS else name


def _iterator(name: str) -> str:
    return naming.camel("iter_" + name.removeprefix("list_").removeprefix("get_"))
