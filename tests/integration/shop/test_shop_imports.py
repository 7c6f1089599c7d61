"""Products from a file: loaded once per line, what is wrong told by line, progress while it goes on."""

from __future__ import annotations

import csv
import io
import json
import time
from typing import Any

import httpx2
import pytest

HEADER = "sku,name,category,price\n"


def start(admin: httpx2.Client, content: str | bytes, name: str = "p.csv", **query: str) -> httpx2.Response:
    data = content.encode() if isinstance(content, str) else content
    return admin.post("/imports", files={"products": (name, data)}, params=query)


def ended(admin: httpx2.Client, started: httpx2.Response, within_s: float = 30.0) -> dict[str, Any]:
    assert started.status_code == 202, started.text
    until = time.monotonic() + within_s
    while (found := admin.get(f"/imports/{started.json()['id']}").json())["state"] == "running":
        assert time.monotonic() < until, found
        time.sleep(0.02)
    return dict(found)


def errors(admin: httpx2.Client, found: dict[str, Any]) -> dict[int, str]:
    text = admin.get(f"/imports/{found['id']}/errors.csv").text
    return {int(row["line"]): row["message"] for row in csv.DictReader(io.StringIO(text, newline=""))}


def test_products_are_added_and_replaced_and_the_listing_knows_at_once(admin: httpx2.Client) -> None:
    for price in ("12.50", "13"):
        found = ended(admin, start(admin, HEADER + f'I-1,"A ""mug"", blue",Imports,{price}\n'))
        assert (found["state"], found["lines"], found["products"], found["errors"]) == ("done", 2, 1, 0)
        shown = admin.get("/products/I-1").json()
        assert shown == {
            "sku": "I-1",
            "name": 'A "mug", blue',
            "category": "Imports",
            "price": int(float(price) * 100),
        }


def test_lines_of_json_are_products_as_the_api_shows_them(admin: httpx2.Client) -> None:
    lines = [{"sku": f"J-{n}", "name": "J", "category": "Imports", "price": n} for n in range(3)]
    found = ended(admin, start(admin, "\n".join(map(json.dumps, lines)), "p.jsonl"))
    assert (found["format"], found["products"]) == ("jsonl", 3)
    assert admin.get("/products/J-2").json()["price"] == 2


def test_every_wrong_line_is_in_the_report_and_the_others_are_loaded(admin: httpx2.Client) -> None:
    content = (
        b"\xef\xbb\xbfSKU,Name,Category,Price\r\n"
        b"W-1,Good,Imports,1.00\r\n"
        b"W 2!,Bad sku,Imports,1.00\r\n"
        b"W-3,Bad price,Imports,1.005\r\n"
        b"W-4,Bad price,Imports,-1\r\n"
        b"\r\n"
        b"W-6,Bad \xff,Imports,1\r\n"
        b"W-7,Too few\r\n"
        b'W-8,"two\r\nlines",Imports,1\r\n'
        b"W-10,NUL \x00,Imports,1\r\n"
        b"W-11," + b"x" * 100_000 + b",Imports,1\r\n"
        b"W-12,Dear,Imports,99999999999\r\n"
        b'W-13,"never closed,Imports,1\r\n'
        b"W-14,Last,Imports,1"
    )
    found = ended(admin, start(admin, content))
    said = errors(admin, found)
    assert (found["products"], found["lines"]) == (3, 15)
    assert sorted(said) == [3, 4, 5, 7, 8, 11, 12, 13, 14]
    assert said[3].startswith("sku: ")
    assert said[4] == "The price '1.005' is not pounds with at most two decimals."
    assert said[7] == "It is not UTF-8: invalid start byte at byte 9."
    assert said[8] == "It has 2 cells instead of 4."
    assert "longer than" in said[12]
    assert admin.get("/products/W-14").status_code == 200


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "empty"),
        ("sku,name\n", "name the columns"),
        ("sku,name,category,price,colour\n", "name the columns"),
        (b"\xff\xfe\x00s", "name the columns"),
        ('"sku,name,category,price\n', "name the columns"),
        (b"\x00" * 1000, "name the columns"),
    ],
)
def test_a_file_that_is_wrong_as_a_whole_is_refused_at_once(
    admin: httpx2.Client, content: str | bytes, said: str
) -> None:
    refused = start(admin, content)
    assert refused.status_code == 422, refused.text
    assert said in refused.json()["errors"][0]["message"]


def test_what_json_has_to_bear_is_told_by_line(admin: httpx2.Client) -> None:
    lines = [
        "{",
        "[]",
        "1",
        '{"sku": "K-1"}',
        "[" * 50_000,
        '{"sku": "K", "name": "\\u0000", "category": "c", "price": 1}',
        '{"sku": "K", "name": "\\ud800", "category": "c", "price": 1}',
    ]
    good = '{"sku": "K-9", "name": "K", "category": "Imports", "price": 1}'
    found = ended(admin, start(admin, "\n".join([*lines, good]), "p.ndjson"))
    assert found["products"] == 1
    assert sorted(errors(admin, found)) == [1, 2, 3, 4, 5, 6, 7]


def test_progress_is_told_as_server_sent_events_until_the_end(admin: httpx2.Client) -> None:
    rows = "".join(f"S-{n},Name {n},Imports,1\n" for n in range(6000))
    started = start(admin, HEADER + rows)
    told: list[dict[str, Any]] = []
    with admin.stream("GET", f"/imports/{started.json()['id']}/progress") as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        told += [json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: ")]
    assert told[-1]["state"] == "done"
    assert (told[-1]["products"], told[-1]["share"]) == (6000, 1.0)
    assert [one["lines"] for one in told] == sorted(one["lines"] for one in told)


def test_imports_are_listed_newest_first_and_for_admins_only(
    admin: httpx2.Client, customer: httpx2.Client
) -> None:
    found = ended(admin, start(admin, HEADER + "L-1,L,Imports,1\n", "newest.csv"))
    assert admin.get("/imports").json()["items"][0]["id"] == found["id"]
    for path in ("/imports", f"/imports/{found['id']}", f"/imports/{found['id']}/errors.csv"):
        assert customer.get(path).status_code == 403
    assert customer.post("/imports", files={"products": ("p.csv", b"x")}).status_code == 403
    for path in ("/imports/none", "/imports/none/errors.csv", "/imports/none/progress"):
        assert admin.get(path).status_code == 404


def test_the_page_loads_only_what_is_its_own(anyone: httpx2.Client) -> None:
    page = anyone.get("/import")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert anyone.get("/import/page.js").headers["content-type"].partition(";")[0].endswith("/javascript")
    assert anyone.get("/import/page.css").status_code == 200
    for path in ("/import/..%2Fapi.py", "/import/none.js"):
        assert anyone.get(path).status_code == 404
