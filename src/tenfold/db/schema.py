"""The framework's own tables: one MetaData, a version per package, and steps from version to version.

A package defines its tables on :data:`framework` with the prefix ``tenfold_``. Missing tables are made by
``migrations.upgrade``; a change to a table that is already out there needs a new version with its steps::

    framework_part("queue", version=2, steps={2: ["ALTER TABLE tenfold_message ADD COLUMN tenant TEXT"]})
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

framework = sa.MetaData()
"""Every table that Tenfold itself keeps in the application's database."""

versions = sa.Table(
    "tenfold_schema",
    framework,
    sa.Column("part", sa.String(64), primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Part:
    """The tables of one package. ``steps[n]`` are the statements that lead from version n - 1 to n."""

    name: str
    version: int = 1
    steps: Mapping[int, Sequence[str]] = field(default_factory=dict[int, Sequence[str]])

    def pending(self, current: int) -> list[str]:
        """The statements that lead from ``current`` to this version."""
        return [step for n in range(current + 1, self.version + 1) for step in self.steps.get(n, ())]


FEW = 3
"""Tables that a message names one by one."""


def some(names: Sequence[str]) -> str:
    """The tables ``names``, for a message; of many the first ones."""
    more = f" and {len(names) - FEW} more" if len(names) > FEW else ""
    return f"the table{'s'[: len(names) - 1]} {', '.join(names[:FEW])}{more}"


def framework_part(name: str, *, version: int = 1, steps: Mapping[int, Sequence[str]] | None = None) -> Part:
    """Declare the version of a package's framework tables; kept with the MetaData that they are defined on."""
    declared = Part(name, version, steps or {})
    parts: dict[str, Part] = framework.info.setdefault("parts", {})
    parts[name] = declared
    return declared


def framework_parts() -> list[Part]:
    """What was declared by the packages that are imported, by name."""
    parts: dict[str, Part] = framework.info.get("parts", {})
    return [parts[name] for name in sorted(parts)]
