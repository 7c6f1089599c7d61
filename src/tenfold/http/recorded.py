"""What is told of a request when it is over: its span, what it failed of, how much was sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tenfold.telemetry.recording import FAILURE

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from tenfold.http.reply import Answer
    from tenfold.http.request import Request
    from tenfold.telemetry.contract import Span


def remember(error: BaseException, request: Request) -> None:
    """Keep the error as text: the error itself would keep its frames alive."""
    context = request.context
    if context.state is None:
        context.state = {}
    context.state[FAILURE] = f"{type(error).__name__}: {error}"


def end_span(span: AbstractContextManager[Any], made: Span, request: Request, answer: Answer) -> None:
    """End a request's outermost span."""
    status, state = answer[0], request.context.state
    attributes = made.attributes
    attributes["url.path"] = request.path
    attributes["http.response.status_code"] = status
    if request.context.request_id:
        attributes["tenfold.request_id"] = request.context.request_id
    if status >= 500:
        made.error = (state or {}).get(FAILURE, f"answered {status}")
    span.__exit__(None, None, None)


def announced(request: Request, answer: Answer) -> int:
    """The length of a stream that is known before it is sent; 0 for others, and where no body follows."""
    if request.method == "HEAD":
        return 0
    return next((int(value) for name, value in answer[1] if name == b"content-length"), 0)
