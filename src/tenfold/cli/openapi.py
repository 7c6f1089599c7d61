"""``tenfold openapi``: the document that /openapi.json serves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter

from tenfold.cli import console, target
from tenfold.cli.target import Config, Target


def openapi(
    app: Target = None,
    /,
    *,
    output: Annotated[
        Path | None, Parameter(name=["--output", "-o"], help="Write it to this file instead.")
    ] = None,
    config: Config = None,
) -> int:
    """Print the OpenAPI 3.1 document of the app."""
    loaded = target.load(app, config)
    loaded.configure(config)
    text = msgspec.json.format(msgspec.json.encode(loaded.openapi()), indent=2).decode()
    if output is None:
        console.say(text)
        return 0
    output.write_text(text + "\n", encoding="utf-8")
    console.say(f"Wrote {output}.")
    return 0
