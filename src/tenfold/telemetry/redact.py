"""Nothing secret leaves the process: one redactor for logs, traces and errors.

Three nets, from certain to heuristic. *Type*: a :class:`Secret` never shows its value. *Name*: the value of a
key that is called ``password``, ``token``, ``authorization`` … is masked whatever it is. *Pattern*: inside any
text, passwords of URLs, ``Authorization`` and cookie headers, bearer and basic credentials, JWTs, private keys,
well-known API keys, payment card numbers (Luhn), and ``password=…``-like pairs are masked. Beyond that, values
that are known at start (signing keys, database passwords) are :meth:`learned <Redactor.learn>` and found in
their encoded forms too: percent, base64 at any alignment, hexadecimal, JSON and HTML escapes.

Every pattern runs in linear time; text beyond ``TEXT_MAX_CHARS`` is cut off.
"""

from __future__ import annotations

import base64
import dataclasses
import html
import json
import re
from collections.abc import Iterable, Mapping, Set
from typing import Any, Final, cast
from urllib.parse import quote, quote_plus

import msgspec

MASK: Final = "••••••"
TEXT_MAX_CHARS: Final = 16_384
ITEMS_MAX: Final = 200
DEPTH_MAX: Final = 8
LEARN_MIN_CHARS: Final = 6
"""Shorter values would mask ordinary words; they cannot be learned."""


class Secret:
    """A text that shows itself only to who calls :meth:`reveal`.

    >>> str(Secret("hunter2")), f"{Secret('hunter2')}", repr(Secret("hunter2"))
    ('••••••', '••••••', 'Secret(••••••)')
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The text itself."""
        return self._value

    def __str__(self) -> str:
        return MASK

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> str:
        raise TypeError("A Secret is not serialized; pass reveal() on purpose where it must travel.")


_NAMES = (
    r"pass[-_]?word|passwd|pwd|passphrase|secret|token|api[-_]?key|authorization|credential|cookie"
    r"|private[-_]?key|session[-_]?id|csrf|card[-_]?number|cvv|cvc"
)
_SENSITIVE_KEY = re.compile(_NAMES, re.IGNORECASE)
_MEASURE_KEY = re.compile(r"_(s|ms|count|max|min|bytes|total|ttl)$")


def is_sensitive(key: str) -> bool:
    """Whether the value of a key with this name is masked."""
    return _SENSITIVE_KEY.search(key) is not None and _MEASURE_KEY.search(key) is None


# Each pattern's named group ``keep`` stays, the rest of the match becomes the mask. Repetitions before the
# decisive word are absent or bounded: an unbounded one would make hostile text cost quadratic time.
_PATTERNS: tuple[re.Pattern[str], ...] = (
    re.compile(r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|$)"),
    re.compile(r"(?P<keep>://[^\s:/?#\"'@]{0,256}:)[^\s\"'/?#]{1,1024}(?=@)"),
    re.compile(r"(?P<keep>://)[^\s:/?#\"'@]{16,1024}(?=@)"),
    re.compile(
        r"(?P<keep>\b(?:proxy-)?(?:authorization|(?:set-)?cookie)\\{0,4}[\"']?\s{0,4}"
        r"(?:[:=]|,(?=\s{0,4}b?\\{0,4}[\"']))\s{0,4}b?\\{0,4}[\"']?)[^\r\n\"']+",
        re.IGNORECASE,
    ),
    re.compile(
        r"(?P<keep>\b(?:bearer|basic)(?:\s{1,4}|%20|\+))(?=[^\s\"']{0,256}[0-9=]|[^\s\"']{16})[\w.~+/=%-]{4,}",
        re.IGNORECASE,
    ),
    re.compile(r"eyJ[\w-]{8,}(?:\.[\w-]*){0,4}"),
    re.compile(
        rf"(?P<keep>(?:{_NAMES})[\w.-]{{0,32}}\\{{0,4}}[\"']?\s{{0,4}}"
        r"(?:=>|[:=]|%3[AD]|,(?=\s{0,4}b?\\{0,4}[\"']))\s{0,4})"
        r"(?:b?\\{0,4}\"[^\"]*\"?|b?\\{0,4}'[^']*'?|[^\s,;&\"'<>)\]}]+)",
        re.IGNORECASE,
    ),
    re.compile(r"\b(?:AKIA[0-9A-Z]{16}|gh[pousr]_\w{20,}|[srp]k_(?:live|test)_\w{8,}|xox[abprs]-[\w-]{10,})"),
    # An API key as we make them: a short prefix, then at least 32 characters with digit, lower and upper case.
    re.compile(r"\b[a-z][a-z0-9]{1,15}_(?=[\w-]{0,256}[0-9])(?=[\w-]{0,256}[A-Z])[\w-]{32,}"),
)
# What every pattern above, and the one below, has in it somewhere: most texts have none of it, and one search finds out.
_TRIGGER = re.compile(
    rf"-----BEGIN|://|bearer|basic|eyJ|AKIA|gh[pousr]_|[srp]k_|xox|_[\w-]{{32}}|{_NAMES}"
    r"|[2-6]\d{3}(?:[ -]?\d){9}",
    re.IGNORECASE,
)
_CARD = re.compile(r"(?<![\w.-])[2-6]\d{3}(?:[ -]?\d){9,15}(?![\w-])")


class Redactor:
    """Masks secrets in text and in structures. Safe to share between threads."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self.learned = 0
        """How often it has learned secrets."""
        self._forms: set[str] = set()
        self._learned: re.Pattern[str] | None = None
        self.learn(*secrets)

    def learn(self, *secrets: str) -> None:
        """Mask these values, and their encoded forms, wherever they turn up.

        Values shorter than six characters are ignored: masking them would hide ordinary words.
        """
        for secret in secrets:
            if len(secret) >= LEARN_MIN_CHARS:
                self._forms.update(_patterns_of(secret))
        if self._forms:
            longest_first = sorted(self._forms, key=len, reverse=True)
            self._learned = re.compile("|".join(longest_first))
        self.learned += 1

    def text(self, text: str) -> str:
        """``text`` with every secret masked, cut at ``TEXT_MAX_CHARS``."""
        # Look a little past the cut, so that a secret that straddles it is recognized whole.
        text, beyond = text[: TEXT_MAX_CHARS * 2], len(text) - TEXT_MAX_CHARS
        if self._learned is not None:
            text = self._learned.sub(MASK, text)
        if _TRIGGER.search(text):
            for pattern in _PATTERNS:
                text = pattern.sub(_mask, text)
            text = _CARD.sub(_mask_card, text)
        return text if beyond <= 0 else f"{text[:TEXT_MAX_CHARS]}… ({beyond} more characters)"

    def value(self, value: Any, depth: int = 0) -> Any:
        """A copy of ``value`` made of plain JSON-able things, with every secret masked. Never raises."""
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Secret):
            return MASK
        if isinstance(value, bytes | bytearray | memoryview):
            return self.text(bytes(value[: TEXT_MAX_CHARS * 2]).decode("latin-1"))
        if depth >= DEPTH_MAX:
            return "…"
        fields = _fields(value)
        if fields is not None:
            return self.fields(fields, depth + 1)
        if isinstance(value, list | tuple | Set):
            return self._items(list(cast("Iterable[Any]", value)), depth + 1)
        return self.text(_safe_repr(value))

    def fields(self, fields: Mapping[Any, Any], depth: int = 0) -> dict[str, Any]:
        """The same for a mapping: values of sensitive keys are masked, the others looked into."""
        out: dict[str, Any] = {}
        for key, value in list(fields.items())[:ITEMS_MAX]:
            name = self.text(key if isinstance(key, str) else _safe_repr(key))
            hide = is_sensitive(name) and value is not None and not isinstance(value, bool)
            out[name] = MASK if hide else self.value(value, depth)
        return out

    def _items(self, items: list[Any], depth: int) -> list[Any]:
        if len(items) == 2 and _is_sensitive_header(items[0]):
            return [self.value(items[0]), MASK]
        return [self.value(item, depth) for item in items[:ITEMS_MAX]]


def _is_sensitive_header(name: Any) -> bool:
    if isinstance(name, bytes):
        name = name.decode("latin-1")
    return isinstance(name, str) and is_sensitive(name)


def _mask(match: re.Match[str]) -> str:
    keep = match.groupdict().get("keep", "") or ""
    return keep + MASK


def _mask_card(match: re.Match[str]) -> str:
    digits = [int(c) for c in match[0] if c.isdigit()]
    doubled = [sum(divmod(d * 2, 10)) for d in digits[-2::-2]]
    return MASK if (sum(doubled) + sum(digits[-1::-2])) % 10 == 0 else match[0]


def _fields(value: Any) -> Mapping[Any, Any] | None:
    if isinstance(value, Mapping):
        return value
    if isinstance(value, msgspec.Struct):
        return msgspec.structs.asdict(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name, None) for f in dataclasses.fields(value)}
    return None


def _safe_repr(value: object) -> str:
    try:
        return str(value) if isinstance(value, BaseException) else repr(value)
    except Exception as error:  # a broken __repr__ must not cost the line that tells about it
        return f"<{type(value).__name__}, whose repr raised {type(error).__name__}>"


def _patterns_of(secret: str) -> set[str]:
    """Regular expressions of the value and its encoded forms."""
    raw = secret.encode()
    forms = {
        secret,
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        html.escape(secret),
        repr(raw)[2:-1],
    }
    for shift in range(3):
        forms.update(_base64_cores(raw, shift))
    patterns = {re.escape(form) for form in forms if len(form) >= LEARN_MIN_CHARS}
    patterns.add(f"(?i:{raw.hex()})")
    for percent in (quote(secret), quote(secret, safe=""), quote_plus(secret)):
        # Writers differ in the case of the digits: %2F, %2f.
        patterns.add(re.sub("%([0-9A-F]{2})", r"%(?i:\1)", re.escape(percent)))
    return patterns


def _base64_cores(raw: bytes, shift: int) -> set[str]:
    """The characters of base64 that depend on ``raw`` alone when it starts at byte ``shift`` of a group."""
    encoded = base64.b64encode(b"\0" * shift + raw).decode().rstrip("=")
    first = -(-shift * 8 // 6)
    last = (shift + len(raw)) * 8 // 6
    core = encoded[first:last]
    return {core, core.replace("+", "-").replace("/", "_")}
