from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shop.files import write_whole


def test_writers_of_one_file_do_not_take_each_others_part(tmp_path: Path) -> None:
    path, contents = tmp_path / "small.webp", [bytes([n]) * 5_000 for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write_whole, [path] * 200, contents * 25))
    assert path.read_bytes() in contents
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_left_of_a_file_that_could_not_be_put_in_place(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError):
        write_whole(tmp_path / "taken", b"content")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
