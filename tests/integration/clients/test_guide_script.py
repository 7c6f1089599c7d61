"""The TypeScript of the guide, compiled strictly and run against the app of the guide."""

from __future__ import annotations

import re
from pathlib import Path

from support.clients import imported, needs_typescript, run_script, served, typescript_client
from support.snippets import ROOT, blocks_of

PRELUDE = """
declare const process: { argv: string[] };
const leaving = new AbortController().signal;
const shown: string[] = [];
const show = (text: string) => { shown.push(text); };
"""


@needs_typescript
def test_the_script_of_the_guide_books_a_seat_once(tmp_path: Path) -> None:
    page = blocks_of(ROOT / "docs/guides/clients.md")
    (code,) = [block.code for block in page if block.code.startswith("# file: cinema.py")]
    (script,) = [block.code for block in page if block.language == "typescript"]
    (tmp_path / "cinema.py").write_text(code)
    app = imported(tmp_path / "cinema.py").app
    here = re.sub(r'"https://cinema\.example"', 'process.argv[2] ?? ""', script)
    assert here != script
    whole = f"{PRELUDE}{here}\nconsole.log(JSON.stringify(shown));"
    path = typescript_client(app, whole, tmp_path)
    with served(app, tmp_path / "data") as url:
        assert run_script(path, url) == []
        assert run_script(path, url) == ["Seat 7 is taken."]
