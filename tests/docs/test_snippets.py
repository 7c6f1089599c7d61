"""Every snippet of the documentation runs, page by page, from top to bottom."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.servers import Postgres, running
from support.snippets import ROOT, Block, PageRun, blocks_of, commands_of, missing_line, pages, runnable
from support.standby import Standby

PAGES = {str(page.relative_to(ROOT)): blocks_of(page) for page in pages()}
SERVERS = {
    "postgresql://shop:secret@db.example/shop": "postgres_url",
    "postgresql://shop:secret@replica.example/shop": "standby_url",
    "redis://redis.example:6379/0": "redis_url",
    "~/tenfold": "checkout",
}
"""Addresses as pages show them, and the fixtures of what stands behind them."""
WITH_SNIPPETS = [name for name, blocks in PAGES.items() if any(map(runnable, blocks))]


@pytest.fixture
def checkout() -> str:
    """Where the reader's copy of Tenfold is."""
    return str(ROOT)


@pytest.fixture
def standby_url(postgres: Postgres, postgres_url: str) -> Iterator[str]:
    """The database of ``postgres_url`` on a standby."""
    with running(Standby(postgres)) as standby:
        yield standby.url(postgres_url.rpartition("/")[2])


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", WITH_SNIPPETS)
def test_every_snippet_of_the_page_runs(page: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    text = "".join(block.code for block in PAGES[page])
    servers = {shown: request.getfixturevalue(name) for shown, name in SERVERS.items() if shown in text}
    with PageRun(tmp_path, servers) as run:
        for block in filter(runnable, PAGES[page]):
            run.run(block)


def test_commands_are_written_where_they_are_run() -> None:
    shells = [b.where for blocks in PAGES.values() for b in blocks if b.language in {"sh", "bash", "shell"}]
    assert not shells, f"write ```console with `$ ` before each command: {shells}"


def test_every_block_that_is_not_run_says_why() -> None:
    assert all(block.reason != "…" for blocks in PAGES.values() for block in blocks)


def test_the_modules_of_the_mounting_guide_are_the_ones_in_examples() -> None:
    """So that tests/integration/test_mounting.py tests what the guide shows."""
    shown = {}
    for block in PAGES["docs/guides/mounting.md"]:
        head, _, code = block.code.partition("\n")
        if head.startswith("# file: "):
            shown[head.removeprefix("# file: ")] = f"{code}\n"
    kept = {f"mounting/{file.name}": file.read_text() for file in (ROOT / "examples/mounting").glob("*.py")}
    kept.pop("mounting/__init__.py")
    assert shown == kept


# ── the machinery itself ─────────────────────────────────────────────────────────────────────────


def page_of(tmp_path: Path, text: str) -> list[Block]:
    page = tmp_path / "page.md"
    page.write_text(text)
    return blocks_of(page)


def test_blocks_are_found_with_their_line_and_reason(tmp_path: Path) -> None:
    text = "# T\n\n```python\na = 1\n```\n\n<!-- not run: it needs\na cloud -->\n\n```console\n$ x\n```\ntext\n\n```json\n{}\n```\n"
    first, second, third = page_of(tmp_path, text)
    assert (first.language, first.line, first.code, first.reason) == ("python", 3, "a = 1", "")
    assert (second.language, second.reason) == ("console", "it needs\na cloud")
    assert not runnable(second)
    assert not runnable(third)


def test_a_reason_holds_for_the_next_block_only(tmp_path: Path) -> None:
    text = "<!-- not run: x -->\nwords between\n\n```python\n1\n```\n<!-- not run: y -->\n```python\n2\n```\n```python\n3\n```\n"
    assert [block.reason for block in page_of(tmp_path, text)] == ["", "y", ""]


def test_commands_are_read_with_what_they_must_say() -> None:
    first, second = commands_of("# comment\n$ curl -s \\\n    localhost:8000\nyes …\n\nno\n$ false\n[exit 1]")
    assert (first.text, first.expected, first.exit_status) == ("curl -s localhost:8000", ["yes …", "no"], 0)
    assert (second.text, second.exit_status) == ("false", 1)


def test_expected_lines_occur_in_order_with_wildcards() -> None:
    output = "\x1b[32mstarted\x1b[0m at 10:20\n  ready\n"
    assert missing_line(["started at …", "ready"], output) is None
    assert missing_line(["ready", "started"], output) == "started"
    assert missing_line(["start…20"], output) is None
    assert missing_line(["started at 11"], output) == "started at 11"


def test_files_are_written_added_to_and_used_by_commands_and_scripts(tmp_path: Path) -> None:
    text = """
```python
# file: pack/mod.py
A = 1
```
```python
# file: pack/mod.py (added)
B = A + 1
```
```python
from pack.mod import B
import sys; print("noise"); kept = B
```
```python
assert kept == 2
```
```console
$ cat pack/mod.py
A = 1
B = …
$ cd pack
$ ls; exit 3
mod.py
[exit 3]
```
```toml
# file: tenfold.toml
[http]
port = 9000
```
```toml
[log]
level = "debug"
```
"""
    with PageRun(tmp_path) as run:
        for block in page_of(tmp_path, text):
            run.run(block)


@pytest.mark.parametrize(
    ("block", "sentence"),
    [
        ("```python\nraise ValueError('broken')\n```", "broken"),
        ("```python\nimport os; os._exit(3)\n```", "interpreter died"),
        ("```console\n$ echo one\ntwo\n```", "lacks: two"),
        ("```console\n$ false\n```", "ended with 1"),
        ("```toml\n[http]\nprot = 1\n```", "http.prot"),
        ("```python\n# file: ../out.py\n```", "outside"),
        ("```python\n# file: a.py (added)\n```", "no block made it"),
    ],
)
def test_a_snippet_that_is_wrong_fails_with_its_place(tmp_path: Path, block: str, sentence: str) -> None:
    with PageRun(tmp_path) as run, pytest.raises(Exception, match=sentence):
        run.run(page_of(tmp_path, block)[0])


def test_a_server_runs_in_the_background_on_other_ports_and_ends_with_the_page(tmp_path: Path) -> None:
    fake = tmp_path / "bin" / "tenfold"
    fake.parent.mkdir()
    fake.write_text(
        "#!/bin/bash\nmkdir -p health && echo up >health/ready\n"
        'echo "Listening on http://127.0.0.1:$TENFOLD_OPS_PORT"\n'
        'exec python3 -m http.server --bind 127.0.0.1 "$TENFOLD_OPS_PORT"\n'
    )
    fake.chmod(0o755)
    text = "```console\n$ bin/tenfold run app:app &\nListening on http://127.0.0.1:8001\n$ curl -s http://127.0.0.1:8001/health/ready\nup\n```"
    with PageRun(tmp_path) as run:
        run.run(page_of(tmp_path, text)[0])
        (server,) = run._running.values()
        assert server.status is None
    assert server.status is not None
