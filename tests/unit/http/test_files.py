"""Files: validators, ranges, and no way out of the folder."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from http_calls import app_of, call, operation
from http_requests import header_of, request, sent

from tenfold._core.clock import ManualClock
from tenfold.errors import DeclarationError, NotFound, PreconditionFailed, RangeNotSatisfiable
from tenfold.http.files import File, byte_range, content_disposition, guess_media_type, static
from tenfold.telemetry.access import Access, AccessLog
from tenfold.telemetry.backends.none import Backend
from tenfold.telemetry.hub import HttpHooks
from tenfold.telemetry.metrics import Registry
from tenfold.telemetry.operations import OperationTable
from tenfold.telemetry.trace import Tracer

CONTENT = bytes(range(256)) * 4
MTIME = 1_700_000_000


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "data.bin"
    path.write_bytes(CONTENT)
    os.utime(path, (MTIME, MTIME))
    return path


def get(path: Path, method: str = "GET", **headers: str) -> tuple[int, bytes, File]:
    response = File(path)
    content = asyncio.run(sent(response, request(method, **headers)))
    return response.status, content, response


def etag_of(path: Path) -> str:
    return str(header_of(get(path)[2], "etag"))


def test_a_whole_file(file: Path) -> None:
    status, content, response = get(file)
    assert (status, content) == (200, CONTENT)
    assert header_of(response, "content-length") == "1024"
    assert header_of(response, "accept-ranges") == "bytes"
    assert header_of(response, "last-modified") == "Tue, 14 Nov 2023 22:13:20 GMT"


def test_the_etag_changes_with_the_content(file: Path) -> None:
    before = etag_of(file)
    file.write_bytes(CONTENT[::-1])
    assert etag_of(file) != before


@pytest.mark.parametrize(
    ("wanted", "start", "end"),
    [
        ("bytes=0-9", 0, 10),
        ("bytes=1000-", 1000, 1024),
        ("bytes=-4", 1020, 1024),
        ("bytes=1000-9999", 1000, 1024),
        ("bytes=-9999", 0, 1024),
        ("bytes = 5-5", 5, 6),
    ],
)
def test_one_range_is_a_206(file: Path, wanted: str, start: int, end: int) -> None:
    status, content, response = get(file, range=wanted)
    assert (status, content) == (206, CONTENT[start:end])
    assert header_of(response, "content-range") == f"bytes {start}-{end - 1}/1024"
    assert header_of(response, "content-length") == str(end - start)


@pytest.mark.parametrize(
    "wanted", ["bytes=0-1,5-6", "bytes=9-5", "bytes=-", "lines=1-2", "bytes=a-b", "bytes=--1"]
)
def test_a_range_that_means_nothing_is_ignored(file: Path, wanted: str) -> None:
    assert get(file, range=wanted)[:2] == (200, CONTENT)


@pytest.mark.parametrize("wanted", ["bytes=1024-", "bytes=5000-6000", "bytes=-0"])
def test_a_range_beyond_the_end_is_a_416_with_the_size(file: Path, wanted: str) -> None:
    with pytest.raises(RangeNotSatisfiable) as caught:
        get(file, range=wanted)
    assert caught.value.headers == {"Content-Range": "bytes */1024"}


def test_a_range_of_an_empty_file_is_a_416() -> None:
    with pytest.raises(RangeNotSatisfiable):
        byte_range("bytes=0-", 0)


def test_head_ignores_the_range(file: Path) -> None:
    status, _, response = get(file, "HEAD", range="bytes=0-9")
    assert (status, header_of(response, "content-length")) == (200, "1024")


def test_if_range_gives_the_part_only_of_the_same_file(file: Path) -> None:
    etag = etag_of(file)
    assert get(file, range="bytes=0-9", if_range=etag)[0] == 206
    assert get(file, range="bytes=0-9", if_range="Tue, 14 Nov 2023 22:13:20 GMT")[0] == 206
    assert get(file, range="bytes=0-9", if_range='"other"')[0] == 200
    assert get(file, range="bytes=0-9", if_range=f"W/{etag}")[0] == 200
    assert get(file, range="bytes=0-9", if_range="Tue, 14 Nov 2023 22:13:21 GMT")[0] == 200


def test_a_client_that_has_the_file_gets_a_304_without_a_body(file: Path) -> None:
    etag = etag_of(file)
    for known in (etag, f"W/{etag}", f'"x", {etag}', "*"):
        status, content, response = get(file, if_none_match=known)
        assert (status, content) == (304, b"")
        assert header_of(response, "etag") == etag
        assert header_of(response, "content-length") is None
    assert get(file, if_modified_since="Tue, 14 Nov 2023 22:13:20 GMT")[0] == 304
    assert get(file, if_modified_since="Tue, 14 Nov 2023 22:13:19 GMT")[0] == 200
    assert get(file, if_modified_since="soon")[0] == 200


def test_the_etag_counts_for_more_than_the_date(file: Path) -> None:
    assert get(file, if_none_match='"other"', if_modified_since="Tue, 14 Nov 2023 22:13:20 GMT")[0] == 200


@pytest.mark.parametrize(
    "headers", [{"if_match": '"other"'}, {"if_unmodified_since": "Tue, 14 Nov 2023 22:13:19 GMT"}]
)
def test_a_failed_precondition_is_a_412(file: Path, headers: dict[str, str]) -> None:
    with pytest.raises(PreconditionFailed):
        get(file, **headers)


def test_a_precondition_that_holds_changes_nothing(file: Path) -> None:
    assert get(file, if_match=etag_of(file))[0] == 200


@pytest.mark.parametrize(
    "name",
    [
        "../secret",
        "/etc/passwd",
        "link",
        "a/../../secret",
        "",
        ".",
        "pipe",
        "missing",
        "a\0b",
        "x" * 5000,
        "link/../secret",
    ],
)
def test_nothing_outside_of_the_root_and_nothing_but_files(tmp_path: Path, name: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret").write_text("secret")
    (root / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(root / "pipe")
    with pytest.raises(NotFound):
        asyncio.run(sent(File(name, root=root)))


def test_a_sibling_that_shares_the_roots_prefix_is_outside(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root-2").write_text("secret")
    with pytest.raises(NotFound):
        asyncio.run(sent(File("../root-2", root=tmp_path / "root")))


def test_a_file_below_the_root_is_served(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.txt").write_text("hello")
    assert asyncio.run(sent(File("a/b.txt", root=tmp_path))) == b"hello"


def test_the_open_file_is_closed_in_the_end(file: Path) -> None:
    async def leave() -> bool:
        response = File(file)
        await response.prepare(request())
        opened: Any = response._file
        await response.close()
        return bool(opened.closed)

    assert asyncio.run(leave())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("a.csv", b'attachment; filename="a.csv"'),
        ("Umsätze.csv", b"attachment; filename=\"Ums_tze.csv\"; filename*=UTF-8''Ums%C3%A4tze.csv"),
        ('a"b\r\n.csv', b"attachment; filename=\"a_b__.csv\"; filename*=UTF-8''a%22b%0D%0A.csv"),
    ],
)
def test_the_name_offered_for_saving(name: str, value: bytes) -> None:
    assert content_disposition("attachment", name) == (b"content-disposition", value)


def test_a_filename_makes_it_an_attachment(file: Path) -> None:
    assert header_of(File(file, "report.csv"), "content-disposition") == 'attachment; filename="report.csv"'
    assert header_of(File(file, "report.csv"), "content-type") == "text/csv; charset=utf-8"
    assert header_of(File(file), "content-disposition") is None


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.txt", "text/plain; charset=utf-8"),
        ("a.png", "image/png"),
        ("a", "application/octet-stream"),
        ("a.txt.gz", "application/gzip"),
        ("a.svgz", "application/gzip"),
    ],
)
def test_media_types_by_name(name: str, kind: str) -> None:
    assert guess_media_type(name) == kind


def fetch(app: Any, path: str, method: str = "GET") -> tuple[int, dict[bytes, bytes], bytes]:
    messages: list[Any] = []

    async def send(message: Any) -> None:
        messages.append(message)

    async def receive() -> Any:
        await asyncio.Event().wait()  # the client stays

    scope = {"type": "http", "method": method, "path": path, "root_path": "", "headers": []}
    asyncio.run(app(scope, receive, send))
    content = b"".join(m.get("body", b"") for m in messages[1:])
    return messages[0]["status"], dict(messages[0]["headers"]), content


def test_a_static_folder(file: Path) -> None:
    app = static(file.parent)
    assert fetch(app, "/data.bin")[::2] == (200, CONTENT)
    status, headers, content = fetch(app, "/../data.bin")
    assert status == 404
    assert headers[b"content-type"] == b"application/problem+json"
    status, headers, _ = fetch(app, "/data.bin", "POST")
    assert (status, headers[b"allow"]) == (405, b"GET, HEAD")
    assert b'"status":404' in content


def test_a_static_folder_must_exist(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match="is not a folder"):
        static(tmp_path / "nowhere")


def test_the_access_log_has_the_status_and_length_that_are_sent(file: Path) -> None:
    lines: list[Access] = []
    answered: list[tuple[int, int]] = []

    def taken(entries: Sequence[Access], epoch_s: float) -> bytes:
        lines.extend(Access(*entry) for entry in entries)
        return b""

    clock = ManualClock()
    tracer, log = Tracer(Backend(), clock), AccessLog(lambda _: None, taken, clock)

    async def show() -> File:
        return File(file)

    app = app_of(operation(show), telemetry=HttpHooks(tracer, OperationTable(Registry()), log))
    etag = etag_of(file).encode()
    for method, name, value in [
        ("GET", b"x", b""), ("GET", b"range", b"bytes=0-9"), ("GET", b"range", b"bytes=9999-"),
        ("GET", b"if-none-match", etag), ("HEAD", b"x", b""),
    ]:  # fmt: skip
        answer = call(app, method, "/", headers=[(name, value)])
        answered.append((answer.status, len(answer.body)))
    log.close()
    assert [(line.status, line.bytes) for line in lines] == answered
    assert [line.status for line in lines] == [200, 206, 416, 304, 200]
    assert lines[0].bytes == len(CONTENT)
