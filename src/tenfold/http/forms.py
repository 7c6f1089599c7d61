"""Forms: ``application/x-www-form-urlencoded`` and ``multipart/form-data`` (RFC 7578).

A multipart body is parsed while it arrives and never held whole: text fields are bounded, and a file beyond
256 KiB moves to an anonymous temporary file that vanishes with the request (also when the process is
killed). Writes to it happen in a thread, 256 KiB at a time. The grammar is the ``multipart`` library's; what
is here are limits that name the part, and :class:`Upload`.
"""

from __future__ import annotations

import asyncio
import io
import os
import re
import shutil
import tempfile
import threading
import unicodedata
from collections.abc import AsyncIterable, AsyncIterator
from pathlib import Path
from typing import IO, Any, BinaryIO, cast
from urllib.parse import parse_qsl

import msgspec
import multipart  # type: ignore[import-untyped]

from tenfold.errors import MalformedBody, PayloadTooLarge, Unavailable, UnsupportedMedia

URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"

SPOOL_BYTES = 262_144
"""Uploads up to this size stay in memory."""


class FormLimits(msgspec.Struct, frozen=True):
    """What a form may cost. Beyond any of these the client gets a 413 that names the part."""

    total_max_bytes: int = 33_554_432
    memory_max_bytes: int = 1_048_576
    """What of it is kept in memory: its text fields, which may not have more, and files as long as there is room."""
    parts_max: int = 200
    field_max_bytes: int = 65_536
    """Size of one text field; files are bounded by the total."""


class Upload:
    """A file that the client sent in a form.

    ``filename`` is safe to use as the last part of a path: no directories, no control or reserved
    characters, never empty, never hidden, at most 200 bytes. ``content_type`` is what the client claims.
    ``size`` is in bytes. The content lives as long as the request: read it, or ``save`` it, before the
    handler returns (hand the saved path, not the upload, to a job).
    """

    __slots__ = ("_file", "_lock", "content_type", "filename", "name", "size")

    def __init__(self, name: str, filename: str, content_type: str, file: IO[bytes], size: int) -> None:
        self.name = name
        self.filename = filename
        self.content_type = content_type
        self.size = size
        self._file = file
        self._lock = threading.Lock()

    @classmethod
    def of(cls, content: bytes, filename: str = "upload", content_type: str = "") -> Upload:
        """An upload made from bytes, for calling a handler directly (in tests, for one)."""
        kind = content_type or "application/octet-stream"
        return cls("", safe_filename(filename), kind, io.BytesIO(content), len(content))

    @property
    def in_memory(self) -> bool:
        return isinstance(self._file, io.BytesIO)

    async def read(self) -> bytes:
        """The whole content, from the start each time it is called."""
        if isinstance(self._file, io.BytesIO):
            return self._file.getvalue()
        return await asyncio.to_thread(self._read_at, 0, self.size)

    async def chunks(self, size: int = SPOOL_BYTES) -> AsyncIterator[bytes]:
        """The content in pieces of ``size`` bytes, so that a large file never sits in memory whole."""
        for offset in range(0, self.size, size):
            yield await asyncio.to_thread(self._read_at, offset, size)

    def open(self) -> BinaryIO:
        """A blocking, seekable file over the content with a position of its own; use it in a thread."""
        return io.BufferedReader(_View(self))

    async def save(self, path: str | os.PathLike[str]) -> int:
        """Write the content to ``path`` and return its size.

        The file appears there whole and synced to disk, or not at all; one that exists is replaced.
        Raises OSError as ``open`` does.
        """
        return await asyncio.to_thread(self._save, Path(path))

    def close(self) -> None:
        """Drop the content. The framework calls it when the request has ended."""
        self._file.close()

    def _read_at(self, offset: int, size: int) -> bytes:
        with self._lock:  # one position is shared by every view
            self._file.seek(offset)
            return self._file.read(size)

    def _save(self, path: Path) -> int:
        fd, temporary = tempfile.mkstemp(dir=path.parent, prefix=".upload-")
        try:
            with os.fdopen(fd, "wb") as target, self.open() as source:
                shutil.copyfileobj(source, target, SPOOL_BYTES)
                target.flush()
                os.fsync(target.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
        return self.size

    def __repr__(self) -> str:
        return f"Upload({self.filename!r}, {self.content_type!r}, {self.size:,} bytes)"


class _View(io.RawIOBase):
    """One reader of an upload; several may read it at the same time."""

    def __init__(self, upload: Upload) -> None:
        self._upload = upload
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._upload.size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        data = self._upload._read_at(self._at, len(buffer))  # pyright: ignore[reportPrivateUsage]
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


class FormData:
    """A parsed form: values by name, in the order of arrival. Close it to drop its files."""

    __slots__ = ("fields", "uploads")

    def __init__(self) -> None:
        self.fields: dict[str, list[str]] = {}
        self.uploads: dict[str, list[Upload]] = {}

    def close(self) -> None:
        for group in self.uploads.values():
            for upload in group:
                upload.close()


def parse_urlencoded(body: bytes, limits: FormLimits) -> FormData:
    """Raises :class:`MalformedBody` for text that is not UTF-8, :class:`PayloadTooLarge` beyond a limit."""
    form = FormData()
    try:
        pairs = parse_qsl(
            body.decode("utf-8"), keep_blank_values=True, errors="strict", max_num_fields=limits.parts_max
        )
    except UnicodeDecodeError as error:
        raise MalformedBody(f"The form is not valid UTF-8: {error.reason} at byte {error.start}.") from None
    except ValueError:
        raise PayloadTooLarge(
            f"The form has more than {limits.parts_max:,} fields.", limit="fields", value=limits.parts_max
        ) from None
    for name, value in pairs:
        if len(value.encode()) > limits.field_max_bytes:
            raise _field_too_large(name, limits)
        form.fields.setdefault(name, []).append(value)
    return form


async def parse_multipart(content_type: str, chunks: AsyncIterable[bytes], limits: FormLimits) -> FormData:
    """Parse a multipart body while it arrives.

    Raises :class:`MalformedBody` (400) for a broken body, :class:`PayloadTooLarge` (413) beyond a limit;
    both name the part. The files received so far are dropped then.
    """
    library: Any = multipart
    boundary: str = library.parse_options_header(content_type)[1].get("boundary", "")
    if not boundary or len(boundary) > 200 or not boundary.isascii():
        raise MalformedBody("The Content-Type of the multipart body has no usable boundary parameter.")
    builder = _Builder(limits)
    try:
        await _feed(multipart.PushMultipartParser(boundary), chunks, builder)
    except multipart.ParserLimitReached:
        builder.drop()
        raise PayloadTooLarge(f"{builder.where()}: its headers are too large.") from None
    except multipart.MultipartError as error:
        builder.drop()
        why = error.args[0] if error.args else "unreadable"  # further ones are Python's own errors
        raise MalformedBody(f"{builder.where()}: the multipart body is broken ({why}).") from None
    except BaseException:
        builder.drop()
        raise
    return builder.form


async def parse_form(content_type: str, chunks: AsyncIterable[bytes], limits: FormLimits) -> FormData:
    """Parse whichever of the two the content type names; :class:`UnsupportedMedia` (415) for another."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind == MULTIPART:
        return await parse_multipart(content_type, chunks, limits)
    if kind != URLENCODED:
        raise UnsupportedMedia(
            f"This operation takes {URLENCODED} or {MULTIPART}, not {kind or 'a body without Content-Type'}."
        )
    body, most = bytearray(), min(limits.total_max_bytes, limits.memory_max_bytes)
    async for chunk in chunks:
        body += chunk
        if len(body) > most:
            raise PayloadTooLarge(
                f"The form is larger than {most:,} bytes.", limit="body_max_bytes", value=most
            )
    return parse_urlencoded(bytes(body), limits)


async def _feed(
    parser: multipart.PushMultipartParser, chunks: AsyncIterable[bytes], builder: _Builder
) -> None:
    received = 0
    async for chunk in chunks:
        received += len(chunk)
        if received > builder.limits.total_max_bytes:
            raise _too_large(builder.limits, builder.where())
        if not chunk:
            continue
        for event in parser.parse(chunk):
            if event is None:
                await builder.end()
            elif isinstance(event, multipart.MultipartSegment):
                builder.start(event)
            elif builder.add(bytes(event)):
                await builder.spool()
    parser.close()


class _Builder:
    """Collects one part after the other into a form."""

    def __init__(self, limits: FormLimits) -> None:
        self.limits = limits
        self.form = FormData()
        self._part: multipart.MultipartSegment | None = None
        self._count = 0
        self._size = 0
        self._buffered = 0
        self._kept = 0  # of parts that are complete
        self._chunks: list[bytes] = []
        self._file: IO[bytes] | None = None

    def where(self) -> str:
        """The part in hand, for messages."""
        if self._part is None:
            return "form" if not self._count else f"after part {self._count}"
        return f"part {self._part.name!r}" if self._part.name else f"part {self._count}"

    def start(self, part: multipart.MultipartSegment) -> None:
        self._part, self._size, self._buffered = part, 0, 0
        self._count += 1
        if self._count > self.limits.parts_max:
            raise PayloadTooLarge(
                f"{self.where()}: the form has more than {self.limits.parts_max:,} parts.",
                limit="parts",
                value=self.limits.parts_max,
            )
        # the library says "" for a name that is missing; an empty one is only useless
        if not part.name and not _NAMED.search(str(part.header("Content-Disposition"))):
            raise MalformedBody(f"{self.where()} has no name in its Content-Disposition.")

    def add(self, data: bytes) -> bool:
        """Keep a piece of the part; True when so much is held that it should go to disk."""
        part = cast("multipart.MultipartSegment", self._part)
        self._size += len(data)
        self._buffered += len(data)
        self._chunks.append(data)
        if part.filename is None:
            if self._size > self.limits.field_max_bytes:
                raise _field_too_large(str(part.name), self.limits)
            if self._kept + self._size > self.limits.memory_max_bytes:
                raise PayloadTooLarge(
                    f"{self.where()}: text fields may have {self.limits.memory_max_bytes:,} bytes together at most.",
                    limit="http.body_max_bytes",
                    value=self.limits.memory_max_bytes,
                )
            return False
        return self._buffered > SPOOL_BYTES or self._kept + self._buffered > self.limits.memory_max_bytes

    async def spool(self) -> None:
        if self._file is None:
            self._file = cast("IO[bytes]", tempfile.TemporaryFile())  # noqa: SIM115 - lives with the upload
        data, self._chunks, self._buffered = b"".join(self._chunks), [], 0
        try:
            await asyncio.to_thread(self._file.write, data)
        except OSError as error:
            raise Unavailable(f"{self.where()} cannot be received: {error.strerror}.") from error

    async def end(self) -> None:
        part = cast("multipart.MultipartSegment", self._part)
        name = str(part.name)
        self._kept += self._buffered if self._file is None else 0
        if part.filename is None:
            self.form.fields.setdefault(name, []).append(self._text(part))
        elif part.filename or self._size:  # browsers send an empty nameless file where none was chosen
            self.form.uploads.setdefault(name, []).append(await self._upload(part))
        self._part, self._chunks, self._buffered, self._file = None, [], 0, None

    def _text(self, part: multipart.MultipartSegment) -> str:
        charset = (part.charset or "utf-8").lower()
        if charset not in _CHARSETS:  # a codec of Python's choice of hundreds is not the client's to pick
            raise MalformedBody(f"{self.where()} has the charset {charset!r}; send UTF-8.")
        try:
            return b"".join(self._chunks).decode(charset)
        except UnicodeDecodeError as error:
            raise MalformedBody(
                f"{self.where()} is not valid {charset}: {error.reason} at byte {error.start}."
            ) from None

    async def _upload(self, part: multipart.MultipartSegment) -> Upload:
        if self._file is not None:
            await self.spool()
        file = self._file or io.BytesIO(b"".join(self._chunks))
        kind = part.content_type or "application/octet-stream"
        return Upload(str(part.name), safe_filename(part.filename or ""), kind, file, self._size)

    def drop(self) -> None:
        self.form.close()
        if self._file is not None:
            self._file.close()


_CHARSETS = frozenset(
    {"utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", "latin-1", "latin1", "windows-1252"}
)
_NAMED = re.compile(r";\s*name\s*=", re.IGNORECASE)
_RESERVED = str.maketrans(dict.fromkeys('<>:"|?*', "_"))
_DEVICES = frozenset(
    {"con", "prn", "aux", "nul"} | {f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10)}
)


def safe_filename(claimed: str) -> str:
    """What of a client's file name may be used on any file system; ``upload`` when nothing is left."""
    name = unicodedata.normalize("NFC", claimed).replace("\\", "/").rpartition("/")[2]
    # category C: control characters, and the invisible ones that disguise "exe.gpj" as "jpg.exe"
    name = "".join(c for c in name if unicodedata.category(c)[0] != "C").translate(_RESERVED)
    name = name.lstrip(". ").rstrip(". ")
    stem, dot, suffix = name.rpartition(".") if "." in name else (name, "", "")
    if stem.partition(".")[0].lower() in _DEVICES:
        stem = f"_{stem}"
    room = 200 - len((dot + suffix).encode())
    if room < 1:
        stem, dot, suffix, room = f"{stem}{dot}{suffix}", "", "", 200
    stem = stem.encode()[:room].decode(errors="ignore")
    return f"{stem}{dot}{suffix}" or "upload"


def _too_large(limits: FormLimits, where: str = "form") -> PayloadTooLarge:
    return PayloadTooLarge(
        f"{where}: the form is larger than {limits.total_max_bytes:,} bytes.",
        limit="body_max_bytes",
        value=limits.total_max_bytes,
    )


def _field_too_large(name: str, limits: FormLimits) -> PayloadTooLarge:
    return PayloadTooLarge(
        f"part {name!r}: a text field may have {limits.field_max_bytes:,} bytes at most.",
        limit="text field",
        value=limits.field_max_bytes,
    )
