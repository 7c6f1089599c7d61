"""The causal token over HTTP: taken from a request, given back with the reply to one that wrote.

Clients that keep cookies need to do nothing. Others send the header ``Tenfold-Causal`` of the last reply that had
one with their next requests; once a client sends it, it gets no cookie. Replies to requests that wrote nothing have
neither, so what could be cached still can. Compiled into endpoints only where ``database.replicas`` are configured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tenfold._core.causal import merged, received
from tenfold.http.reply import cookie_header

if TYPE_CHECKING:
    from tenfold.http.build import Build
    from tenfold.http.reply import Answer
    from tenfold.http.request import Request

HEADER: Final = b"tenfold-causal"
COOKIE: Final = "tenfold_causal"
_COOKIE_IS: Final = b"tenfold_causal="
_AGE_MIN_S: Final = 300


def write(build: Build) -> None:
    """The step."""
    tokens = build.wiring.causal
    if tokens is None:
        return
    code = build.code
    code.use(token_in=token_in, tell_token=tokens.tell)
    code.line(
        "asked = ''",
        "if b'tenfold-causal' in headers or b'cookie' in headers:",
        "    asked = context.causal = token_in(request)",
    )
    code.after("if context.causal != asked: answer = tell_token(answer, request)")


def token_in(request: Request) -> str:
    """The token that a request brings, or ""; what is none is ignored."""
    sent = request.header_bytes.get(HEADER)
    token = "" if sent is None else received(sent.decode("latin-1").strip())
    if b"cookie" not in request.header_bytes:
        return token
    for name, value in request.raw_headers:  # HTTP/2 lets clients send one header per cookie
        if name == b"cookie" and _COOKIE_IS in value:
            kept = value.partition(_COOKIE_IS)[2].partition(b";")[0]
            token = merged(token, received(kept.decode("latin-1").strip().strip('"')))
    return token


class Tokens:
    """Adds the token to replies.

    The cookie may be forgotten once every replica that is still read from has the write: after ``lag_max_s``.
    """

    def __init__(self, lag_max_s: float) -> None:
        self._max_age_s = max(_AGE_MIN_S, int(2 * lag_max_s))

    def tell(self, answer: Answer, request: Request) -> Answer:
        """The answer with what its request has written."""
        token = request.context.causal
        added = [(HEADER, token.encode("latin-1"))]
        if HEADER not in request.header_bytes:
            added.append(
                cookie_header(
                    COOKIE, token, max_age_s=self._max_age_s, path=request.root_path or "/",
                    secure=request.scheme == "https",
                )
            )  # fmt: skip
        status, headers, body, stream = answer
        if stream is not None:
            headers += added  # the stream sends its own list
            return answer
        return status, [*headers, *added], body, None
