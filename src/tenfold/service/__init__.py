"""A service: one module of a backend, with everything it declares."""

from __future__ import annotations

from tenfold.service.operations import OperationOptions
from tenfold.service.service import Service

__all__ = ["OperationOptions", "Service"]
