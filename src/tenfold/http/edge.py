"""What every reply gets at the edge of the app: security headers, CORS, compression. A step and its run-time half."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tenfold.http.middleware import COMPRESS_INLINE_MAX_BYTES, Cors, Edge, Gzip, add_missing

if TYPE_CHECKING:
    from tenfold.http.build import Build
    from tenfold.http.reply import Answer, Headers
    from tenfold.http.request import Request


def write(build: Build) -> None:
    """The step: only what is configured costs anything.

    The encode step puts the fixed headers into plain answers as it makes them, last, so that one look tells
    whether they are there.
    """
    edge, code = build.wiring.edge, build.code
    if edge is None:
        return
    lines: list[str] = []
    if edge.headers:
        code.use(EDGE=edge.headers, EDGE_LAST=edge.headers[-1], add_missing=add_missing)
        lines.append("if not answer[1] or answer[1][-1] is not EDGE_LAST: add_missing(answer[1], EDGE)")
    if edge.cors is not None:
        code.use(add_cors=CorsHeaders(edge.cors).add)
        lines.append("add_cors(answer[1], headers)")
    if edge.gzip is not None:
        code.use(compress=Compression(edge.gzip).apply)
        lines.append(f"if len(answer[2]) >= {edge.gzip.min_bytes}: answer = await compress(request, answer)")
    code.after(*lines)


class CorsHeaders:
    """Adds what browsers of other origins look for."""

    def __init__(self, cors: Cors) -> None:
        self._cors = cors

    def add(self, headers: Headers, asked: Mapping[bytes, bytes]) -> None:
        origin = asked.get(b"origin")
        headers.extend(self._cors.headers(None if origin is None else origin.decode("latin-1")))


class Compression:
    """Compresses whole bodies for clients that accept it; large ones in a thread."""

    def __init__(self, gzip: Gzip) -> None:
        self._gzip = gzip

    async def apply(self, request: Request, answer: Answer) -> Answer:
        status, headers, body, stream = answer
        if request.method == "HEAD" or not self._gzip.applies(headers, len(body)):
            return answer
        accepted = request.header_bytes.get(b"accept-encoding")
        text = None if accepted is None else accepted.decode("latin-1")
        headers = list(headers)  # it may be a list that a cache keeps
        if len(body) > COMPRESS_INLINE_MAX_BYTES:
            packed = await asyncio.to_thread(self._gzip.compress, body, headers, text)
        else:
            packed = self._gzip.compress(body, headers, text)
        return status, headers, packed, stream


def dressed(answer: Answer, edge: Edge | None, asked: Headers) -> Answer:
    """An answer that no endpoint made (404, 405 …), with the same headers as the others."""
    if edge is not None:
        add_missing(answer[1], edge.headers)
        if edge.cors is not None:
            CorsHeaders(edge.cors).add(answer[1], dict(asked))
    return answer
