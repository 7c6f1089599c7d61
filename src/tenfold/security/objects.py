"""Checks on the object at hand, after the operation's policy has let the caller in::

order = await db.read().one(by_id, Order, id=order_id)
own(order.customer_id, customer)                       # 404 unless it is the caller's
ensure(order.state == "open", Conflict("The order is closed."))
"""

from __future__ import annotations

from typing import Any

from tenfold._core.context import current
from tenfold.errors import Forbidden, NotFound, Problem, Unauthorized
from tenfold.security.principal import Principal


def ensure(condition: object, problem: Problem | str = "") -> None:
    """Raise ``problem`` unless ``condition`` holds; a sentence (or nothing) means :class:`Forbidden`."""
    if not condition:
        raise problem if isinstance(problem, Problem) else Forbidden(problem)


def own(
    owner_id: Any,
    principal: Principal | None = None,
    *,
    problem: Problem | str = "",
    hide: bool = True,
    roles: tuple[str, ...] = (),
) -> None:
    """Raise unless the object belongs to ``principal`` (default: the caller of the work in hand).

    ``owner_id`` is compared with the principal's id as text; None belongs to nobody. Principals with one of
    ``roles`` pass too. By default the refusal is :class:`NotFound`, exactly as if the object did not exist, so that
    ids cannot be probed; with ``hide=False`` it is :class:`Forbidden`.

    ``problem`` is the refusal's sentence, or the whole of it. Where the handler says more than nothing of a missing
    object, say the same here, or the two differ::

        missing = NotFound(f"There is no order {order_id}.")
        ensure(order, missing)
        own(order.customer_id, problem=missing)
    """
    caller = principal if principal is not None else current().principal
    if not isinstance(caller, Principal):
        raise Unauthorized("This needs a credential, and the request has none.")
    if owner_id is not None and str(owner_id) == caller.id:
        return
    if not caller.roles.isdisjoint(roles):
        return
    if isinstance(problem, Problem):
        raise problem
    raise NotFound(problem) if hide else Forbidden(problem or "This belongs to somebody else.")
