"""Files as responses, with validators and ranges (RFC 9110 § 13 and 14), and folders of static files."""

from __future__ import annotations

import asyncio
import mimetypes
import os
import re
import stat
from collections.abc import AsyncIterator, Iterable, Mapping
from email.utils import formatdate, parsedate_to_datetime
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from tenfold.errors import (
    DeclarationError,
    MethodNotAllowed,
    NotFound,
    PreconditionFailed,
    Problem,
    RangeNotSatisfiable,
)
from tenfold.http.reply import Headers, StreamingResponse, header

if TYPE_CHECKING:
    from tenfold.http.request import Request

CHUNK_BYTES = 262_144

_RANGE = re.compile(r"bytes[ \t]*=[ \t]*(\d{0,18})-(\d{0,18})[ \t]*", re.ASCII)


class File(StreamingResponse):
    """A file on disk, sent in pieces that are read in a thread::

        return File(name, root="pictures")                        # name may come from the client
        return File(report_path, filename="revenue-2026.csv")     # offered for saving

    ``root`` confines ``path`` to a folder: a path that leads out of it, through ``..``, an absolute name or a
    symbolic link, is a 404. Always give it when any part of ``path`` comes from outside. ``disposition``
    defaults to ``attachment`` when ``filename`` is given, else ``inline``. ``media_type`` is told by the name.

    The answer carries ``ETag`` and ``Last-Modified``; If-Match, If-None-Match, If-Modified-Since,
    If-Unmodified-Since, Range and If-Range are honoured. Of several ranges in one request none is: the whole
    file is the answer, as RFC 9110 § 14.2 allows. What is not a readable regular file is a 404.
    """

    __slots__ = ("_end", "_file", "_path", "_root", "_start")

    def __init__(
        self,
        path: str | os.PathLike[str],
        filename: str | None = None,
        media_type: str | None = None,
        disposition: Literal["inline", "attachment"] | None = None,
        *,
        root: str | os.PathLike[str] | None = None,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
    ) -> None:
        self._path = os.fspath(path)
        self._root = None if root is None else os.fspath(root)
        self._file: IO[bytes] | None = None
        self._start = self._end = 0
        name = filename or os.path.basename(self._path)
        super().__init__(200, headers, media_type or guess_media_type(name))
        if filename or disposition:
            self.headers.append(content_disposition(disposition or "attachment", filename or ""))

    async def prepare(self, request: Request) -> None:
        """Open the file and decide between 200, 206, 304, 412 and 416 by the request's headers."""
        self._file, size, mtime_ns = await asyncio.to_thread(_open, self._path, self._root)
        etag = f'"{mtime_ns:x}-{size:x}"'
        self._default_header("etag", etag)
        self._default_header("last-modified", formatdate(mtime_ns // 10**9, usegmt=True))
        self._default_header("accept-ranges", "bytes")
        get = request.headers.get
        _check_preconditions(get, etag, mtime_ns // 10**9)
        if _not_modified(get, etag, mtime_ns // 10**9):
            self.status = 304
            self.headers[:] = [pair for pair in self.headers if not pair[0].startswith(b"content-")]
            return
        self._start, self._end = 0, size
        if request.method == "GET" and _range_applies(get, etag, mtime_ns // 10**9):
            self._take_range(get("range") or "", size)
        self._default_header("content-length", str(self._end - self._start))

    def _take_range(self, wanted: str, size: int) -> None:
        chosen = byte_range(wanted, size)
        if chosen is not None:
            self._start, self._end = chosen
            self.status = 206
            self.headers.append(header("content-range", f"bytes {self._start}-{self._end - 1}/{size}"))

    async def chunks(self, request: Request) -> AsyncIterator[bytes]:
        file = self._file
        at = self._start
        while file is not None and at < self._end:
            piece = await asyncio.to_thread(_read, file, at, min(CHUNK_BYTES, self._end - at))
            if not piece:
                raise OSError(f"{self._path} became shorter while it was sent.")
            at += len(piece)
            yield piece

    async def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def byte_range(wanted: str, size: int) -> tuple[int, int] | None:
    """``(start, end)`` of one range, end exclusive; None for one that is to be ignored (RFC 9110 § 14.2).

    Raises :class:`RangeNotSatisfiable` for one that lies beyond the end.
    """
    match = _RANGE.fullmatch(wanted.strip())
    if match is None or match.group(0).rstrip().endswith("=-"):
        return None
    first, last = match.groups()
    if not first:
        start, end = max(0, size - int(last)), size
        satisfiable = int(last) > 0 and size > 0
    else:
        start, end = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return None
        satisfiable = start < size
    if not satisfiable:
        raise RangeNotSatisfiable(
            f"The range {wanted.strip()!r} lies beyond the end of the content, which has {size:,} bytes.",
            headers={"Content-Range": f"bytes */{size}"},
        )
    return start, end


def content_disposition(kind: str, filename: str) -> tuple[bytes, bytes]:
    """The header of RFC 6266: an ASCII name for old clients, the real one beside it where they differ."""
    if not filename:
        return header("content-disposition", kind)
    plain = re.sub(r"[^ !#-\[\]-~]|%(?=[0-9A-Fa-f]{2})", "_", filename)
    value = f'{kind}; filename="{plain}"'
    if plain != filename:
        value += f"; filename*=UTF-8''{quote(filename, safe='')}"
    return header("content-disposition", value)


def guess_media_type(name: str) -> str:
    """By the extension, from Python's own table: the machine's files would make it differ between hosts."""
    kind, encoding = _types().guess_type(name, strict=False)
    if encoding is not None:  # "notes.txt.gz" is a gzip file, not a text
        kind = {"gzip": "application/gzip"}.get(encoding)
    if kind is None:
        return "application/octet-stream"
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind


def static(directory: str | os.PathLike[str], *, html: bool = False) -> Any:
    """An ASGI app over a folder, to be mounted: ``service.mount("/assets", static("assets"), auth=public)``.

    ``html`` serves ``index.html`` for folders. Symbolic links that lead out of the folder are not followed.
    Raises :class:`DeclarationError` when the folder does not exist.
    """
    from starlette.exceptions import HTTPException
    from starlette.staticfiles import StaticFiles

    from tenfold.http.problems import problem_response

    if not Path(directory).is_dir():
        raise DeclarationError(f"{str(directory)!r} is not a folder.", where="static()")
    files = StaticFiles(directory=directory, html=html)

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        problem: Problem
        try:
            await files(scope, receive, send)
        except HTTPException as error:
            if error.status_code == 405:
                problem = MethodNotAllowed(
                    "Static files answer GET and HEAD.", headers={"Allow": "GET, HEAD"}
                )
            else:
                problem = NotFound(f"There is no file at {scope['path']}.")
            await _send(problem_response(problem), send)

    return serve


async def _send(response: Any, send: Any) -> None:
    body: bytes = response.body or b""
    headers: Headers = [*response.headers, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@cache
def _types() -> mimetypes.MimeTypes:
    types = mimetypes.MimeTypes()
    types.add_type("image/webp", ".webp")
    types.add_type("text/markdown", ".md")
    types.add_type("application/yaml", ".yaml")
    types.add_type("application/yaml", ".yml")
    return types


def _open(path: str, root: str | None) -> tuple[IO[bytes], int, int]:
    """The open file, its size and its mtime in ns, all of the same file even while it is replaced."""
    try:
        # O_NONBLOCK: opening a named pipe without a writer would wait for ever; files ignore it
        fd = os.open(
            _confined(path, root), os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        )
    except (OSError, ValueError):
        raise NotFound("There is no such file.") from None
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        os.close(fd)
        raise NotFound("There is no such file.")
    return os.fdopen(fd, "rb", buffering=0), found.st_size, found.st_mtime_ns


def _confined(path: str, root: str | None) -> str:
    if root is None:
        return path
    base = os.path.realpath(root)
    full = os.path.realpath(os.path.join(base, path))
    if os.path.isabs(path) or os.path.commonpath((base, full)) != base:
        raise ValueError("outside of the root")
    return full


def _read(file: IO[bytes], at: int, size: int) -> bytes:
    file.seek(at)
    return file.read(size)


def _check_preconditions(get: Any, etag: str, mtime_s: int) -> None:
    if wanted := get("if-match"):
        failed = wanted.strip() != "*" and etag not in _etags(wanted, weak=False)
    else:
        since = _seconds(get("if-unmodified-since"))
        failed = since is not None and mtime_s > since
    if failed:
        raise PreconditionFailed("The file has changed since.", headers={"ETag": etag})


def _not_modified(get: Any, etag: str, mtime_s: int) -> bool:
    if known := get("if-none-match"):  # takes precedence over the date (RFC 9110 § 13.1.3)
        return known.strip() == "*" or etag in _etags(known, weak=True)
    since = _seconds(get("if-modified-since"))
    return since is not None and mtime_s <= since


def _range_applies(get: Any, etag: str, mtime_s: int) -> bool:
    if not get("range"):
        return False
    known = get("if-range")
    if not known:
        return True
    return known.strip() == etag or _seconds(known) == mtime_s


def _etags(value: str, *, weak: bool) -> set[str]:
    tags = (tag.strip() for tag in value.split(","))
    return {tag.removeprefix("W/") if weak else tag for tag in tags}


def _seconds(date: str | None) -> int | None:
    if not date:
        return None
    try:
        return int(parsedate_to_datetime(date).timestamp())
    except (ValueError, OverflowError):
        return None
