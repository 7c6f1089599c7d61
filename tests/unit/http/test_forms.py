"""Forms: parsed while they arrive, bounded, and every complaint names the part."""

from __future__ import annotations

import asyncio
import io
import os
import tempfile
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tenfold.errors import MalformedBody, PayloadTooLarge, Problem, Unavailable, UnsupportedMedia
from tenfold.http.forms import (
    SPOOL_BYTES,
    FormData,
    FormLimits,
    Upload,
    parse_form,
    parse_urlencoded,
    safe_filename,
)

BOUNDARY = "b0undary"
TYPE = f"multipart/form-data; boundary={BOUNDARY}"


def part(name: str, content: bytes, filename: str | None = None, extra: str = "") -> bytes:
    file = "" if filename is None else f'; filename="{filename}"'
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n{extra}\r\n'
    return head.encode() + content + b"\r\n"


def body(*parts: bytes) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


async def pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


def parse(data: bytes, size: int = 65_536, type_: str = TYPE, **limits: Any) -> FormData:
    return asyncio.run(parse_form(type_, pieces(data, size), FormLimits(**limits)))


def refused(data: bytes, kind: type[Problem] = MalformedBody, type_: str = TYPE, **limits: Any) -> str:
    with pytest.raises(kind) as caught:
        parse(data, type_=type_, **limits)
    return caught.value.detail


@pytest.mark.parametrize("size", [1, 2, 7, 64, 65_536])
def test_a_body_means_the_same_however_it_is_cut(size: int) -> None:
    form = parse(
        body(part("note", b"two\r\n--b0undar lines"), part("note", b""), part("file", b"\x00\xff", "a.bin")),
        size,
    )
    assert form.fields == {"note": ["two\r\n--b0undar lines", ""]}
    assert asyncio.run(form.uploads["file"][0].read()) == b"\x00\xff"


def test_a_large_upload_goes_to_disk_and_reads_back_the_same() -> None:
    content = os.urandom(SPOOL_BYTES * 2 + 123)
    upload = parse(body(part("file", content, "big.bin"))).uploads["file"][0]
    assert not upload.in_memory
    assert upload.size == len(content)
    assert asyncio.run(upload.read()) == content
    upload.close()


def test_a_small_upload_stays_in_memory() -> None:
    assert parse(body(part("file", b"x" * SPOOL_BYTES, "a"))).uploads["file"][0].in_memory


def test_a_large_upload_is_never_held_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written to disk at a time bounds what the parser holds."""
    written: list[int] = []
    threads: set[int] = set()
    real = tempfile.TemporaryFile

    class Spy:
        def __init__(self) -> None:
            self.file: Any = real()

        def write(self, data: bytes) -> int:
            written.append(len(data))
            threads.add(threading.get_ident())
            return int(self.file.write(data))

        def close(self) -> None:
            self.file.close()

    monkeypatch.setattr(tempfile, "TemporaryFile", Spy)
    parse(body(part("file", bytes(3_000_000), "big.bin")))
    assert sum(written) == 3_000_000
    assert max(written) <= SPOOL_BYTES + 65_536
    assert threading.get_ident() not in threads


def test_several_readers_have_positions_of_their_own() -> None:
    upload = parse(body(part("file", bytes(range(256)) * 2_000, "a"))).uploads["file"][0]
    one, two = upload.open(), upload.open()
    one.seek(-10, io.SEEK_END)
    assert two.read(3) == b"\x00\x01\x02"
    assert one.read() == bytes(range(246, 256))


def test_chunks_cover_the_content_in_order() -> None:
    async def collect(upload: Upload) -> list[bytes]:
        return [chunk async for chunk in upload.chunks(4)]

    assert asyncio.run(collect(Upload.of(b"0123456789"))) == [b"0123", b"4567", b"89"]


def test_save_replaces_the_target_whole(tmp_path: Path) -> None:
    target = tmp_path / "picture.png"
    target.write_bytes(b"old")
    assert asyncio.run(Upload.of(b"new").save(target)) == 3
    assert target.read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir()] == ["picture.png"]


def test_a_failed_save_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = tmp_path / "taken"
    folder.mkdir()
    with pytest.raises(OSError):
        asyncio.run(Upload.of(b"new").save(folder))
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


def test_closing_the_form_drops_its_files() -> None:
    form = parse(body(part("file", b"x" * (SPOOL_BYTES + 1), "a")))
    form.close()
    with pytest.raises(ValueError, match="closed file"):
        asyncio.run(form.uploads["file"][0].read())


def test_a_refused_form_drops_what_it_received(monkeypatch: pytest.MonkeyPatch) -> None:
    files: list[Any] = []
    real = tempfile.TemporaryFile

    def spy() -> Any:
        files.append(real())
        return files[-1]

    monkeypatch.setattr(tempfile, "TemporaryFile", spy)
    big = part("file", b"x" * (SPOOL_BYTES * 2), "a")
    refused(body(big, big), PayloadTooLarge, total_max_bytes=900_000)
    assert len(files) == 2
    assert all(file.closed for file in files)


def test_an_unchosen_file_of_a_browser_is_no_upload() -> None:
    assert parse(body(part("file", b"", ""))).uploads == {}


def test_an_empty_file_is_an_upload() -> None:
    assert parse(body(part("file", b"", "empty.txt"))).uploads["file"][0].size == 0


def test_the_content_type_of_a_part_is_kept() -> None:
    form = parse(body(part("file", b"", "a.png", "Content-Type: Image/PNG; x=y\r\n")))
    assert form.uploads["file"][0].content_type == "image/png"


def test_text_after_the_last_boundary_is_ignored() -> None:
    assert parse(body(part("a", b"1")) + b"epilogue", 3).fields == {"a": ["1"]}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (
            body(part("a", b"1"), part("b", b"\xff")),
            "part 'b' is not valid utf-8: invalid start byte at byte 0",
        ),
        (body(part("a", b"1"))[:-8], "part 'a': the multipart body is broken (Unexpected end"),
        (
            f"--{BOUNDARY}\r\nContent-Disposition: form-data\r\n\r\n1\r\n--{BOUNDARY}--".encode(),
            "part 1 has no name",
        ),
        (
            f"--{BOUNDARY}\r\nContent-Type: text/plain\r\n\r\nx\r\n".encode(),
            "form: the multipart body is broken",
        ),
        (b"hello", "form: the multipart body is broken"),
        (b"", "form: the multipart body is broken"),
        (
            body(part("a", b"1", None, "Content-Type: text/plain; charset=zip\r\n")),
            "charset 'zip'; send UTF-8",
        ),
    ],
)
def test_a_broken_body_is_a_400_that_names_the_part(data: bytes, says: str) -> None:
    assert says in refused(data)


@pytest.mark.parametrize(
    ("data", "limits", "says"),
    [
        (
            body(part("a", b"12345")),
            {"field_max_bytes": 4},
            "part 'a': a text field may have 4 bytes at most",
        ),
        (
            body(part("a", b"x" * 70_000, "f")),
            {"total_max_bytes": 66_000},
            "part 'a': the form is larger than",
        ),
        (body(part("a", b""), part("b", b"")), {"parts_max": 1}, "part 'b': the form has more than 1 parts"),
        (body(part("a", b"", None, f"X-Long: {'x' * 5_000}\r\n")), {}, "form: its headers are too large"),
    ],
)
def test_a_limit_is_a_413_that_names_the_part(data: bytes, limits: dict[str, int], says: str) -> None:
    assert says in refused(data, PayloadTooLarge, **limits)


@pytest.mark.parametrize(
    "type_", ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=\xfc"]
)
def test_a_multipart_needs_a_usable_boundary(type_: str) -> None:
    assert "boundary" in refused(b"", type_=type_)


@pytest.mark.parametrize("type_", ["application/json", "", "text/plain; x=multipart/form-data"])
def test_another_content_type_is_a_415(type_: str) -> None:
    assert "multipart/form-data" in refused(b"", UnsupportedMedia, type_=type_)


def test_a_full_disk_is_a_503(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", Full)
    assert "part 'file' cannot be received: No space left" in refused(
        body(part("file", bytes(SPOOL_BYTES * 2), "a")), Unavailable
    )


def test_urlencoded_pairs_keep_their_order_and_their_empty_values() -> None:
    form = parse(b"a=1&b=&a=%C3%A9+x&c", type_="application/x-www-form-urlencoded; charset=utf-8")
    assert form.fields == {"a": ["1", "é x"], "b": [""], "c": [""]}


@pytest.mark.parametrize("data", [b"a=%ff", b"\xff=1"])
def test_urlencoded_text_must_be_utf8(data: bytes) -> None:
    with pytest.raises(MalformedBody, match="not valid UTF-8"):
        parse_urlencoded(data, FormLimits())


def test_urlencoded_forms_have_limits() -> None:
    with pytest.raises(PayloadTooLarge, match="more than 2 fields"):
        parse_urlencoded(b"a=1&a=2&a=3", FormLimits(parts_max=2))
    with pytest.raises(PayloadTooLarge, match="part 'a'"):
        parse_urlencoded(b"a=12345", FormLimits(field_max_bytes=4))
    with pytest.raises(PayloadTooLarge, match="larger than 4 bytes"):
        parse(b"a=12345", type_="application/x-www-form-urlencoded", total_max_bytes=4)


@pytest.mark.parametrize(
    ("claimed", "safe"),
    [
        ("photo.jpg", "photo.jpg"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\ada\\cv.pdf", "cv.pdf"),
        (".htaccess", "htaccess"),
        ("..", "upload"),
        ("", "upload"),
        ("a\x00b\r\n.txt", "ab.txt"),
        ('a<b>:"|?*.txt', "a_b______.txt"),
        ("photo\u202egpj.exe", "photogpj.exe"),
        ("con.txt", "_con.txt"),
        ("Ünïcode 日本.txt", "Ünïcode 日本.txt"),
        ("trailing. ", "trailing"),
    ],
)
def test_a_file_name_is_made_safe(claimed: str, safe: str) -> None:
    assert safe_filename(claimed) == safe


@pytest.mark.parametrize("claimed", ["é" * 300 + ".jpeg", "a." + "x" * 400, "x" * 300])
def test_a_long_file_name_is_cut_and_keeps_a_sane_extension(claimed: str) -> None:
    safe = safe_filename(claimed)
    assert len(safe.encode()) <= 200
    assert safe.endswith(".jpeg") or not claimed.endswith(".jpeg")


def test_a_header_that_is_not_utf8_is_refused_without_python_in_the_sentence() -> None:
    broken = body(part("file", b"x", "a")).replace(b'"a"', b'"\xff\xfe"')
    assert "Error" not in refused(broken)
