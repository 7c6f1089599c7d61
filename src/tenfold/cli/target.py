"""From ``shop.app:app`` to the App: named, set in tenfold.toml, or the only one there is."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from tenfold._core import settings
from tenfold._core.loading import import_program
from tenfold._core.text import nearest
from tenfold.cli import console
from tenfold.errors import ConfigError, TenfoldError

if TYPE_CHECKING:
    from tenfold.app import App

Target = Annotated[str | None, Parameter(name="APP", help="The app, as module:name. Default: app.target.")]
Config = Annotated[
    Path | None, Parameter(name=["--config", "-c"], help="Settings file. Default: tenfold.toml.")
]


class NotImportable(ConfigError):
    """The user's module raises while it is imported; the message holds the line."""


def load(target: str | None, config: Path | None = None) -> App:
    """The app that ``target`` names, not yet configured.

    Raises :class:`ConfigError` when there is none and :class:`NotImportable` when its code fails.
    """
    module, name = named(target, config)
    loaded = _import(module)
    found = getattr(loaded, name, None)
    if found is None:
        raise ConfigError(f"there is no {name!r} in {module}.{nearest(name, vars(loaded))}", where="APP")
    from tenfold.app import App

    if not isinstance(found, App):
        kind = type(found).__name__
        apps = [key for key, value in vars(loaded).items() if isinstance(value, App)]
        remedy = f"Did you mean {module}:{apps[0]}?" if apps else ""
        raise ConfigError(f"{module}:{name} is a {kind}, not a tenfold.App.", where="APP", remedy=remedy)
    return found


def named(target: str | None, config: Path | None = None) -> tuple[str, str]:
    """Module and name: from the command line, the setting ``app.target``, or the only ``*/app.py`` here."""
    target = target or settings.peek("app.target", config) or _only_one()
    module, _, name = target.partition(":")
    if module.endswith(".py") or "/" in module:
        dotted = module.removesuffix(".py").strip("./").replace("/", ".")
        raise ConfigError(f"{target!r} is a path.", where="APP", remedy=f"Write {dotted}:{name or 'app'}.")
    return module, name or "app"


def sources(module: str, app: App | None = None) -> tuple[Path, ...]:
    """The folders whose files make the app: its package, its services' homes, and the settings file."""
    found = {service.home for service in app.services} if app is not None else set[Path]()
    spec = importlib.util.find_spec(module.partition(".")[0])
    if spec is not None and spec.submodule_search_locations:
        found |= {Path(folder).resolve() for folder in spec.submodule_search_locations}
    elif spec is not None and spec.origin:
        found.add(Path(spec.origin).resolve().parent)
    found = found or {Path.cwd()}
    outer = {folder for folder in found if not found & set(folder.parents)}
    toml = Path("tenfold.toml").resolve()
    if toml.exists() and toml.parent not in outer:
        outer.add(toml)
    return tuple(sorted(outer))


def _only_one() -> str:
    here = sorted(path.parent.name for path in Path().glob("*/app.py") if path.parent.name.isidentifier())
    if len(here) == 1:
        return f"{here[0]}.app:app"
    what = f"there are several apps here: {', '.join(here)}." if here else "there is no */app.py here."
    raise ConfigError(
        what, where="APP", remedy='Name the app (tenfold … shop.app:app) or set app.target = "shop.app:app".'
    )


def _import(module: str) -> Any:
    try:
        return import_program(module)
    except ModuleNotFoundError as error:
        if error.name and f"{module}.".startswith(f"{error.name}."):
            raise ConfigError(
                f"there is no module {error.name!r} in {Path.cwd()} or on the Python path.", where="APP"
            ) from None
        raise _broken(module, error) from error
    except TenfoldError:
        raise
    except Exception as error:
        raise _broken(module, error) from error


def _broken(module: str, error: Exception) -> Exception:
    place = console.blame(error)
    if place is None:
        return error
    what = console.paint(console.described(error), console.BOLD, sys.stderr)
    return NotImportable(f"{module} cannot be imported.\n{place}\n{what}")
