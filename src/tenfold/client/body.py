"""Bodies of answers, within bounds: neither a large body nor a small one that unpacks into a large one fills memory."""

from __future__ import annotations

import zlib
from collections.abc import AsyncGenerator
from contextlib import aclosing

PIECE_MAX = 65_536
"""Bytes that are unpacked at a time."""
ACCEPTED = "gzip, deflate"
"""The encodings that are understood, for ``Accept-Encoding``."""


class TooLarge(Exception):
    """There is more than allowed."""


class BadEncoding(Exception):
    """The body is not packed as its head says. The message is the end of a sentence."""


async def unpacked(pieces: AsyncGenerator[bytes], encoding: str, *, max_bytes: int) -> AsyncGenerator[bytes]:
    """The body without its content encoding, in pieces of at most 64 KiB where it was packed.

    Raises :class:`TooLarge` when more than ``max_bytes`` came, packed or unpacked, and :class:`BadEncoding`.
    """
    unpack = _unpacker(encoding)
    came = given = 0
    async with aclosing(pieces) as wire:
        async for packed in wire:
            came += len(packed)
            for piece in [packed] if unpack is None else unpack.feed(packed):
                given += len(piece)
                if max(came, given) > max_bytes:
                    raise TooLarge
                yield piece
            if came > max_bytes:
                raise TooLarge
    if unpack is not None:
        unpack.end()


async def whole(pieces: AsyncGenerator[bytes]) -> bytes:
    """All of it."""
    async with aclosing(pieces):
        return b"".join([piece async for piece in pieces])


class _Unpacker:
    """gzip and deflate, a bounded piece at a time."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self._begun = False
        self._unpack = zlib.decompressobj(31 if encoding == "gzip" else 15)

    def feed(self, packed: bytes) -> _Pieces:
        return _Pieces(self, packed)

    def step(self, packed: bytes) -> tuple[bytes, bytes]:
        """A piece, and what is still packed."""
        try:
            piece = self._unpack.decompress(packed, PIECE_MAX)
        except zlib.error as error:
            if self._begun or self._encoding != "deflate":
                raise BadEncoding(f"is not what {self._encoding} makes: {error}") from None
            # Servers disagree whether "deflate" has the zlib header (RFC 9110 § 8.4.1.2 says so) or not.
            self._unpack = zlib.decompressobj(-15)
            self._begun = True
            return self.step(packed)
        self._begun = True
        if self._unpack.eof and self._unpack.unused_data:
            raise BadEncoding(f"goes on after the end of its {self._encoding} data")
        return piece, self._unpack.unconsumed_tail

    def end(self) -> None:
        if self._begun and not self._unpack.eof:
            raise BadEncoding(f"ends in the middle of its {self._encoding} data")


class _Pieces:
    """What one packed piece unpacks into; unpacked as it is asked for."""

    def __init__(self, unpacker: _Unpacker, packed: bytes) -> None:
        self._unpacker, self._packed = unpacker, packed
        self._full = False

    def __iter__(self) -> _Pieces:
        return self

    def __next__(self) -> bytes:
        # A full piece may have left something inside although all input is taken.
        if not self._packed and not self._full:
            raise StopIteration
        piece, self._packed = self._unpacker.step(self._packed)
        self._full = len(piece) == PIECE_MAX
        if not piece and not self._packed:
            raise StopIteration
        return piece


def _unpacker(encoding: str) -> _Unpacker | None:
    match encoding.strip().lower():
        case "" | "identity":
            return None
        case "gzip" | "x-gzip":
            return _Unpacker("gzip")
        case "deflate":
            return _Unpacker("deflate")
        case other:
            raise BadEncoding(f"is encoded as {other[:50]!r}, which was not asked for")
