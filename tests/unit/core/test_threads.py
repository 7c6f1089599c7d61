from __future__ import annotations

import asyncio

import pytest

from tenfold._core.threads import contained


def test_a_function_that_raises_stop_iteration_does_not_keep_its_awaiter_waiting() -> None:
    async def main() -> None:
        async with asyncio.timeout(5):
            await asyncio.to_thread(contained, next, iter(()))

    with pytest.raises(RuntimeError, match="raised StopIteration"):
        asyncio.run(main())


def test_other_results_and_errors_pass() -> None:
    assert contained(sorted, [2, 1], reverse=True) == [2, 1]
    with pytest.raises(ZeroDivisionError):
        contained(divmod, 1, 0)
