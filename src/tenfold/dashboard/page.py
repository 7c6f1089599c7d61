"""The shape of a page.

::

    class Jobs(Page):
        path = "/jobs"
        title = "Jobs"
        about = "Queues, what runs, what failed."
        group = "Work"

        async def body(self, view: View) -> Html:
            return join(await view.live(self.depths), …)

        @live(every_s=2)
        async def depths(self, view: View) -> Html:
            return ui.table(…)

        @action("Pause")
        async def pause(self, view: View) -> str:
            await …pause(view.form["queue"])
            return f"Queue {view.form['queue']} is paused."

A page is made once per app and holds no state of its visitors. ``body`` is what stands below the title; parts marked
with :func:`live` are fetched again while the page is looked at; :func:`action` marks what changes something: POST, for
operators only, refused across origins, written to the audit log, its sentence shown. ``view.button(self.pause,
queue="mail")`` makes the button.
"""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

from tenfold.dashboard import ui
from tenfold.dashboard.html import EMPTY, Html

if TYPE_CHECKING:
    from tenfold.app import App
    from tenfold.dashboard.view import View

GROUPS: Final = ("Now", "Traffic", "Work", "Data", "Control")
"""The sections of the navigation, in order."""

Choices = Mapping[str, Collection[str]]
Part = Callable[["View"], Awaitable[Html]]
Act = Callable[["View"], Awaitable["str | Html"]]
F = TypeVar("F", bound=Callable[..., Awaitable[Any]])


class Live:
    """What :func:`live` said of a method."""

    def __init__(self, every_s: float) -> None:
        self.every_s = every_s


class Action:
    """What :func:`action` said of a method."""

    def __init__(self, label: str, confirm: str, danger: bool, private: tuple[str, ...], into: str) -> None:
        self.label, self.confirm, self.danger = label, confirm, danger
        self.private, self.into = private, into


def live(*, every_s: float = 2.0) -> Callable[[F], F]:
    """Fetch this part again every so many seconds, and after every action."""

    def mark(method: F) -> F:
        method.__live__ = Live(every_s)  # type: ignore[attr-defined]
        return method

    return mark


asked = live(every_s=math.inf)
"""A part that is fetched when a visitor presses its button: ``view.ask(self.plan, "Show the plan", span=…)``. It changes
nothing, or it were an action."""


def action(
    label: str,
    *,
    confirm: str = "",
    danger: bool = False,
    private: tuple[str, ...] = (),
    into: str = "",
) -> Callable[[F], F]:
    """Mark a method that changes something and returns the sentence to show. ``label`` is what its button says;
    ``confirm`` is asked first, with ``{field}`` replaced by the button's fields; ``private`` fields are left out of the
    audit log. ``into``: it returns HTML instead, which goes into the element of that id."""

    def mark(method: F) -> F:
        method.__action__ = Action(label, confirm, danger, private, into)  # type: ignore[attr-defined]
        return method

    return mark


class Page(ABC):
    """One page of the dashboard; made once per app."""

    path: ClassVar[str]
    """``/jobs``, or ``/jobs/{id}``: ``view.params["id"]`` is one segment, ``{id:path}`` the rest."""
    title: ClassVar[str]
    about: ClassVar[str] = ""
    """A sentence below the title."""
    group: ClassVar[str] = ""
    """Section of the navigation, one of :data:`GROUPS`; empty for pages that others lead to."""
    key: ClassVar[str] = ""
    """The letter that leads here after ``g``."""
    parent: ClassVar[str] = ""
    """For those: the path of the page that is current in the navigation."""
    windowed: ClassVar[bool] = False
    """Whether the choice of a time window stands above it (``view.since``)."""
    choices: ClassVar[Choices] = {}
    """Members of the query that have one of a few values: anything else is answered with a sentence."""
    parts: ClassVar[Mapping[str, Live]] = {}
    actions: ClassVar[Mapping[str, Action]] = {}

    def __init_subclass__(cls) -> None:
        members: dict[str, Any] = dict(inspect.getmembers(cls, inspect.isfunction))
        cls.parts = {name: each.__live__ for name, each in members.items() if hasattr(each, "__live__")}
        cls.actions = {name: each.__action__ for name, each in members.items() if hasattr(each, "__action__")}

    def __init__(self, app: App) -> None:
        self.app = app

    def present(self) -> bool:
        """Whether the app has anything to show here; a page that is not present is in no navigation and answers 404."""
        return True

    def heading(self, view: View) -> str:
        """What stands above the page, for those that show one thing of many."""
        return self.title

    @live(every_s=5)
    async def untold(self, view: View) -> Html:
        """Why what happens now is not kept, above pages that show what was kept; nothing while all is well."""
        store = view.assembly.telemetry.store
        if store is None:
            off = (
                "What happens is not kept (telemetry.store is false): this page knows of no time before now."
            )
            return ui.note(off, "warn")
        sentence = store.writer.sentence
        return ui.note(sentence, "warn") if sentence else EMPTY

    @abstractmethod
    async def body(self, view: View) -> Html:
        """What stands below the title. Raises a Problem, whose sentence is shown with its status."""
