"""The objectives that an app declares. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tenfold.http.policies import sourced
from tenfold.telemetry.objectives import Objective

if TYPE_CHECKING:
    from tenfold.app import App


def objectives(app: App) -> dict[str, Objective]:
    """By operation, of those that have one, in the order of declaration."""
    inherited = app.inherited
    found = {
        operation.name: sourced(operation, inherited[operation.service])["slo"].value
        for operation in app.operations
        if operation.routed
    }
    return {name: objective for name, objective in found.items() if objective is not None}
