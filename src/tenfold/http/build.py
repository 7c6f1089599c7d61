"""What the steps of the pipeline write into: the source of one endpoint, and what is known of its operation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tenfold.http.inject import Injection
    from tenfold.http.operation import Operation
    from tenfold.http.params import Param
    from tenfold.http.wiring import Wiring

INDENT = "    "


class Code:
    """Source that grows line by line; blocks are closed in the reverse order of their opening."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {}
        self._lines: list[str] = []
        self._depth = 0
        self._closers: list[tuple[int, tuple[str, ...]]] = []

    def line(self, *texts: str) -> None:
        self._lines.extend(INDENT * self._depth + text for text in texts)

    def open(self, head: str, *after: str) -> None:
        """Begin a block around everything that later steps write; ``after`` are the lines that end it.

        They stand at the level of ``head``, unless they begin with a space for each level below it.
        """
        self.line(head)
        self._closers.append((self._depth, after))
        self._depth += 1

    def after(self, *lines: str) -> None:
        """Lines that follow everything that later steps write, without a block around that."""
        self._closers.append((self._depth, lines))

    def use(self, **names: Any) -> None:
        """Make objects visible to the function. A name means one thing only."""
        for name, value in names.items():
            if self.names.setdefault(name, value) is not value:
                raise AssertionError(f"two steps use the name {name!r} differently")

    def text(self) -> str:
        """The whole source, every open block closed."""
        while self._closers:
            self._depth, after = self._closers.pop()
            self.line(*(INDENT * (len(t) - len(t.lstrip(" "))) + t.lstrip(" ") for t in after))
        return "\n".join(self._lines) + "\n"


@dataclass(slots=True)
class Build:
    """What the steps know of the operation that they write code for."""

    operation: Operation[..., Any]
    wiring: Wiring
    params: list[Param]
    injection: Injection
    path_names: tuple[str, ...]
    code: Code = field(default_factory=Code)
    arguments: dict[str, str] = field(default_factory=dict)
    """Expression of every argument of the handler, filled by the steps."""
    headers: list[str] = field(default_factory=list)
    """Expressions of headers that earlier steps add to the answer that the encode step makes."""

    def in_(self, *places: str) -> list[Param]:
        return [p for p in self.params if p.place in places]

    @property
    def has_body(self) -> bool:
        return bool(self.in_("body", "form", "file"))

    @property
    def timeout_s(self) -> float:
        return self.operation.policies.timeout_s or self.wiring.settings.timeout_s
