"""The body of an answer that is read piece by piece."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING

from tenfold._core.context import current
from tenfold.client.answer import Answer, Headers
from tenfold.client.body import BadEncoding, TooLarge, unpacked
from tenfold.client.contract import Slow, Unanswered
from tenfold.errors import BadAnswer, DependencyTimeout

if TYPE_CHECKING:
    from tenfold.client.state import State
    from tenfold.client.trying import Call, Open


async def pieces_of(
    state: State, call: Call, answer: Answer | Open, headers: Headers
) -> AsyncGenerator[bytes]:
    """The body, unpacked, up to ``download_max_bytes`` and the deadline of the work in hand."""
    if isinstance(answer, Answer):
        yield answer.content
        return
    name, most = state.request(call.method, call.path), state.options.download_max_bytes
    wire = unpacked(answer.incoming.pieces(), headers.get("content-encoding", ""), max_bytes=most)
    try:
        async with aclosing(wire):
            while True:
                async with asyncio.timeout(current().remaining(state.clock)):
                    piece = await anext(wire, None)
                if piece is None:
                    return
                yield piece
    except TooLarge:
        raise BadAnswer(
            f"{name} answered with more than {most:,} bytes (download_max_bytes).", dependency=state.name
        ) from None
    except BadEncoding as error:
        raise BadAnswer(f"{name} answered with a body that {error}.", dependency=state.name) from None
    except (Slow, TimeoutError) as error:
        said = str(error) or "its body was not there by the deadline."
        raise DependencyTimeout(f"{name}: {said}", dependency=state.name) from None
    except Unanswered as error:
        raise state.unavailable(f"{call.method} {call.path}: {error}", "broken", 1.0) from None
