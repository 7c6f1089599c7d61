"""Errors to answers, at run time: the recover step."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from tenfold.errors import InternalError, Overloaded, Problem
from tenfold.http import problems
from tenfold.http.deadline import problem_of as cancelled_problem
from tenfold.http.recorded import remember
from tenfold.http.request import ClientDisconnected

if TYPE_CHECKING:
    from tenfold.http.operation import Operation
    from tenfold.http.reply import Answer
    from tenfold.http.request import Request

log = logging.getLogger("tenfold.http")

ABORTED: Answer = (499, [], b"", None)
"""The client went away: counted under the status that NGINX uses for it, sent to nobody."""


class Recovery:
    """Answers for the errors of one operation."""

    def __init__(self, operation: Operation[..., Any], timeout_s: float, *, challenge: str = "") -> None:
        self._operation = operation
        self._timeout_s = timeout_s
        self._challenge = challenge

    def answer(self, error: BaseException, request: Request) -> Answer:
        """The answer for ``error``. Raises it again when it is not the request's: a stop of the server."""
        if request.ended:
            return self._ended(error, request)
        if isinstance(error, ClientDisconnected):
            return ABORTED
        if _is_stop(error):
            raise error
        problem = problems.problem_of(error)
        if problem.status >= 500 and not isinstance(problem, Overloaded):
            remember(error, request)
            self._log(error, problem, request)
        if problem.status == 401 and self._challenge:
            problem.headers.setdefault("WWW-Authenticate", self._challenge)
        return problems.answer_of(
            problem, request_id=request.context.request_id, instance=request.root_path + request.path
        )

    def _ended(self, error: BaseException, request: Request) -> Answer:
        """The sweeper cancelled the request; whatever the handler made of that, this is why it ended."""
        task = asyncio.current_task()
        while task is not None and task.cancelling():
            task.uncancel()  # or else asyncio.timeout and TaskGroup misread later work of this task
        if request.ended == "disconnect":
            return ABORTED
        problem = error if isinstance(error, Problem) else cancelled_problem(request, self._timeout_s)
        if problem.status >= 500:
            remember(problem, request)
            log.warning("%s: %s", self._operation.name, problem.detail, extra=self._extra(request))
        return problems.answer_of(
            problem, request_id=request.context.request_id, instance=request.root_path + request.path
        )

    def _log(self, error: BaseException, problem: Problem, request: Request) -> None:
        if isinstance(problem, InternalError) and error is not problem:
            log.error(
                "%s failed: %s", self._operation.name, error, exc_info=error, extra=self._extra(request)
            )
        else:
            log.warning(
                "%s answered %d: %s", self._operation.name, problem.status, error, extra=self._extra(request)
            )

    def _extra(self, request: Request) -> dict[str, str]:
        return {"request_id": request.context.request_id, "operation": self._operation.name}


def _is_stop(error: BaseException) -> bool:
    """Whether the process or this very task is being stopped. A handler that awaits a task which somebody
    cancelled, or calls ``sys.exit``, has failed like any other."""
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is None or task.cancelling() > 0
    return isinstance(error, (KeyboardInterrupt, GeneratorExit))
