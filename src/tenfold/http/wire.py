"""Text out of bytes, strictly: query strings, cookies, percent-encoding. Pure, and quick for the usual case.

Everything here raises :class:`BadText` for bytes that are not the UTF-8 text they claim to be, so that a
handler never meets replacement characters or half-decoded names.
"""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

Values = dict[str, "str | list[str]"]

NUL, PERCENT, PLUS = b"\x00%+"
"""As numbers: of bytes Python asks first whether they are one, by an exception, which takes five times as long."""


class BadText(ValueError):
    """Percent-encoded or raw bytes that are not UTF-8; the message is a sentence without the place."""


def text_of(raw: bytes) -> str:
    """``raw`` as UTF-8 text. Raises :class:`BadText` for other bytes, with their offset, and for NUL."""
    if NUL in raw:
        raise BadText("has a NUL character in it, which no text may have.")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise BadText(f"is not valid UTF-8 (byte {error.start}).") from None


def unquote_strictly(text: str) -> str:
    """Percent-decode one path segment."""
    return text_of(unquote_to_bytes(text)) if "%" in text else text


def parse_query(raw: bytes) -> Values:
    """Names and values of a query string or urlencoded form; a name that repeats maps to a list.

    ``+`` is a space, names without ``=`` have the empty value (WHATWG URL § 5.1).
    """
    values: Values = {}
    if PERCENT in raw or PLUS in raw:
        pairs = [_decoded_pair(pair) for pair in raw.split(b"&") if pair]
    else:
        pairs = [pair.partition("=")[::2] for pair in text_of(raw).split("&") if pair]
    for name, value in pairs:
        if name not in values:
            values[name] = value
        elif isinstance(known := values[name], list):
            known.append(value)
        else:
            values[name] = [known, value]
    return values


def _decoded_pair(pair: bytes) -> tuple[str, str]:
    name, _, value = pair.replace(b"+", b" ").partition(b"=")
    return text_of(unquote_to_bytes(name)), text_of(unquote_to_bytes(value))


def parse_cookies(raw: bytes) -> dict[str, str]:
    """Cookies of a ``Cookie`` header (RFC 6265 § 5.4); the first of a name wins, bad bytes raise."""
    cookies: dict[str, str] = {}
    for pair in text_of(raw).split(";"):
        name, sep, value = pair.strip().partition("=")
        if sep and name not in cookies:
            quoted = len(value) >= 2 and value[0] == value[-1] == '"'
            cookies[name] = value[1:-1] if quoted else value
    return cookies
