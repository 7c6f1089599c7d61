"""Processes that have the file open are found by their locks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support.orphans import die_with_parent
from tenfold.grow.holders import holders, parse

LOCKS = """\
1: POSIX  ADVISORY  READ 101 08:01:77 128 128
2: POSIX  ADVISORY  WRITE 102 08:01:77 120 120
2: -> POSIX  ADVISORY  WRITE 103 08:01:77 120 120
3: FLOCK  ADVISORY  WRITE 104 08:01:77 0 EOF
4: POSIX  ADVISORY  READ 105 08:01:78 128 128
"""


def test_locks_of_other_files_and_kinds_do_not_count() -> None:
    assert parse(LOCKS, 77) == {101, 102}


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="needs /proc/locks")
def test_a_process_that_has_the_file_open_is_found(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    code = (
        "import apsw, sys; c = apsw.Connection(sys.argv[1]); c.execute('PRAGMA journal_mode=WAL; CREATE TABLE t (a)').fetchall();"
        "print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        preexec_fn=die_with_parent,
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdout.readline()
        assert holders(path) == {other.pid}
        other.stdin.close()
        other.wait()
    assert holders(path) == set()
