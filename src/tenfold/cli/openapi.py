"""``tenfold openapi`` and ``tenfold asyncapi``: the documents that /openapi.json and /asyncapi.json serve."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter

from tenfold.cli import console, target
from tenfold.cli.target import Config, Target

Output = Annotated[Path | None, Parameter(name=["--output", "-o"], help="Write it to this file instead.")]


def openapi(app: Target = None, /, *, output: Output = None, config: Config = None) -> int:
    """Print the OpenAPI 3.1 document of the app: its operations."""
    loaded = target.load(app, config)
    loaded.configure(config)
    return _written(loaded.openapi(), output)


def asyncapi(app: Target = None, /, *, output: Output = None, config: Config = None) -> int:
    """Print the AsyncAPI 3.0 document of the app: its topics and subscribers."""
    loaded = target.load(app, config)
    loaded.configure(config)
    return _written(loaded.asyncapi(), output)


def _written(document: dict[str, Any], output: Path | None) -> int:
    text = msgspec.json.format(msgspec.json.encode(document), indent=2).decode()
    if output is None:
        console.say(text)
        return 0
    output.write_text(text + "\n", encoding="utf-8")
    console.say(f"Wrote {output}.")
    return 0
