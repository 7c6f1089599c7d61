"""What is made once for each key, and kept within bounds."""

from __future__ import annotations

from tenfold._core.made import Made


def test_each_is_made_once_and_never_more_than_so_many_are_kept() -> None:
    made: list[int] = []

    def make(key: int) -> str:
        made.append(key)
        return f"of {key}"

    texts = Made(make, 3)
    known = texts.known
    assert [texts(key) for key in (1, 2, 1, 3, 2)] == ["of 1", "of 2", "of 1", "of 3", "of 2"]
    assert made == [1, 2, 3]
    assert texts(4) == "of 4"
    assert known == {4: "of 4"}
    assert known is texts.known
