"""``tenfold policies``: limits, deadlines and priorities of a running app, changed without a deployment."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated

import msgspec
from cyclopts import App as Commands
from cyclopts import Parameter

from tenfold._core.text import plural
from tenfold.cli import console
from tenfold.cli.jobs import Here, Where, time_of, user, with_app
from tenfold.errors import ConfigError, InvalidInput, NotFound

if TYPE_CHECKING:
    from tenfold.app import App
    from tenfold.guard.overrides import Override, Overrides

commands = Commands(
    name="policies", help="Change limits, deadlines and priorities of a running app, and see what is changed."
)

Name = Annotated[str, Parameter(name="NAME", help="What to change: orders.place_order.limit, for one.")]
Why = Annotated[str, Parameter(help="Why; logged, and kept for others to read.")]
SECONDS = 2
"""How long it takes at most until all instances heed a change."""


@commands.default
@commands.command(name="list")
def list_(
    *,
    all_: Annotated[
        bool, Parameter(name="--all", negative=(), help="List everything that can be changed.")
    ] = False,
    where: Where = Here,
) -> int:
    """List what is changed, by whom, why, and until when."""

    async def act(overrides: Overrides) -> None:
        changed = {override.name: override for override in overrides.in_force}
        if all_:
            console.table([(name, _value(changed.get(name))) for name in overrides.names])
            return
        rows = [_row(override) for override in changed.values()]
        console.table(rows, headings=("policy", "value", "by", "since", "until", "why"), cut=True)
        if not rows:
            console.say(console.paint("Every policy is as code and settings say.", console.DIM))

    return _with_overrides(where, act)


@commands.command(name="set")
def set_(
    name: Name,
    value: Annotated[
        str, Parameter(name="VALUE", help='As in the code: "5/minute", 0.5, sheddable, none for no limit.')
    ],
    /,
    *,
    why: Why,
    until: Annotated[
        str | None,
        Parameter(help='When it ends by itself: "15m", "2h", or "2027-01-31T18:00:00Z". Default: never.'),
    ] = None,
    where: Where = Here,
) -> int:
    """Change one policy in all instances, within two seconds and until it is unset.

    operations: NAME.limit, .timeout_s, .priority, .concurrency · services: NAME.limit · the admission of requests:
    http.concurrency · clients: NAME.breaker
    """

    async def act(overrides: Overrides) -> None:
        made = await overrides.set(name, _read(value), by=user(), why=why, until=until)
        ends = "until it is unset" if made.until is None else f"until {time_of(made.until)}"
        console.say(f"{name} is {_value(made)} in all instances within {plural(SECONDS, 'second')}, {ends}.")

    return _with_overrides(where, act)


@commands.command
def unset(name: Name, /, *, why: Why = "", where: Where = Here) -> int:
    """Go back to what code and settings say."""

    async def act(overrides: Overrides) -> None:
        removed = await overrides.unset(name, by=user(), why=why)
        console.say(
            f"{name} is as declared in all instances within {plural(SECONDS, 'second')}."
            if removed
            else f"{name} was not changed."
        )

    return _with_overrides(where, act)


def _with_overrides(where: Where, act: Callable[[Overrides], Awaitable[None]]) -> int:
    async def with_overrides(app: App) -> None:
        from tenfold.assembly import Assembly

        overrides = Assembly(app).overrides  # compiled, so that what could not work is refused here
        if app.settings.gateway.routes:
            from tenfold.gateway.role import adjustables

            overrides.know(adjustables(app))
        await overrides.look()
        try:
            await act(overrides)
        except NotFound as problem:
            raise ConfigError(problem.detail, remedy="`tenfold policies list --all` has them.") from None
        except InvalidInput as problem:
            raise ConfigError(
                " ".join(each.message for each in problem.errors), where=name_of(problem)
            ) from None

    return with_app(where, with_overrides)


def name_of(problem: InvalidInput) -> str:
    """Which argument is wrong."""
    path = problem.errors[0].path
    return "VALUE" if path == "value" else f"--{path}"


def _read(text: str) -> str | int | float | bool | None:
    """Numbers, true, false and none as such; everything else is text."""
    if text.lower() in ("none", "null"):
        return None
    try:
        return msgspec.json.decode(text, type=int | float | bool)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return text


def _row(override: Override) -> tuple[str, ...]:
    until = console.paint("unset", console.DIM) if override.until is None else time_of(override.until)
    return (override.name, _value(override), override.by, time_of(override.at), until, override.why)


def _value(override: Override | None) -> str:
    if override is None:
        return ""
    return console.paint("none" if override.value is None else str(override.value), console.YELLOW)
