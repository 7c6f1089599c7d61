"""JSON Schema of the types that an API speaks, as the endpoints really read and write them."""

from __future__ import annotations

from typing import Any

from tenfold._core import json_schema
from tenfold._core.json_schema import REF, Schema
from tenfold.http.forms import Upload

__all__ = ["BINARY", "REF", "Schema", "Schemas"]

BINARY: Schema = {"type": "string", "format": "binary", "contentMediaType": "application/octet-stream"}
"""A file in a multipart form."""


class Schemas(json_schema.Schemas):
    """``inputs`` are types that endpoints read and whose unknown fields they reject; ``others`` the rest."""

    def foreign(self, type_: type[Any]) -> Schema:
        """See the base class; files are binary."""
        return dict(BINARY) if type_ is Upload else super().foreign(type_)
