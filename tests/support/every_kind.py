"""An API in which every kind of value, body, answer and refusal occurs, for the tests of generated clients."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Generic, Literal, NamedTuple, TypeVar
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType, field

from tenfold import App, Cookie, EventStream, Form, Header, Redirect, Request, Service, Stream, Upload, public
from tenfold.errors import Conflict, NotFound, TooManyRequests, Unavailable
from tenfold.http.params import File as FileField
from tenfold.http.stream import Event

T = TypeVar("T")


class Colour(enum.Enum):
    """What colour it has."""

    RED = "red"
    DARK_GREEN = "dark-green"


class Size(enum.IntEnum):
    SMALL = 1
    LARGE = 3


class Circle(Struct, tag="circle"):
    radius: float


class Square(Struct, tag="square"):
    side: float
    colour: Colour = Colour.RED


Shape = Circle | Square


class Point(NamedTuple):
    x: int
    y: int


@dataclass
class Note:
    """A note. ``in_`` is a word of Python's: */ and \"\"\" and \\ are nobody's business."""

    text: str
    class_: str = "plain"


class Every(Struct, rename="camel"):
    """Every kind of value."""

    text: str
    whole: int
    real: float
    yes: bool
    moment: datetime
    day: date
    clock: time
    lasting: timedelta
    price: Annotated[Decimal, Meta(description="In pounds, exactly.")]
    key: UUID
    raw: bytes
    colour: Colour
    size: Size
    shape: Shape
    point: Point
    notes: list[Note]
    by_name: dict[str, Shape]
    import_: str = field(name="import")
    maybe: str | None = None
    left_out: str | UnsetType = UNSET
    both: int | UnsetType | None = UNSET
    level: Literal["low", "high"] = "low"
    tags: list[str] = []
    favourite: Colour = Colour.DARK_GREEN
    nested: Every | None = None


class Page(Struct, Generic[T]):
    items: list[T]
    next: str | None


class Changed(Struct, kw_only=True):
    """What is to be changed."""

    name: str | UnsetType | None = UNSET
    age: int | UnsetType = UNSET


class TooLate(Conflict):
    """It is over. This second sentence is for the people of the server."""

    kind = "too-late"


class Kept(Struct):
    """What arrived."""

    name: str
    bytes: int
    media_type: str
    comment: str | None


service = Service("kinds", auth=public)
tried: dict[str, int] = {}
"""How often an operation was asked to do something, by what it was asked."""


@service.post("/every", status=201)
async def echo(every: Every) -> Every:
    """What comes in goes out."""
    return every


@service.get("/things/{name}/{rest:path}")
async def look(
    name: str,
    rest: str,
    colours: list[Colour],
    since: datetime,
    limit: Annotated[int, Meta(ge=1, description="How many at most.")] = 10,
    exact: bool = False,
    x_trace_colour: Annotated[str, Header()] = "",
    flavour: Annotated[str, Cookie()] = "",
) -> dict[str, str]:
    """Look at things."""
    shown = {
        "name": name,
        "rest": rest,
        "colours": ",".join(c.value for c in colours),
        "since": since.isoformat(),
    }
    return shown | {"limit": str(limit), "exact": str(exact), "trace": x_trace_colour, "flavour": flavour}


@service.patch("/changed")
async def change(changed: Changed) -> dict[str, bool | None]:
    """Which members were sent, and whether they were null."""
    given = {"name": changed.name, "age": changed.age}
    return {name: value is None for name, value in given.items() if value is not UNSET}


@service.get("/pages")
async def list_numbers(page: int = 1) -> Page[int]:
    """Ten numbers on three pages."""
    last = page == 3
    return Page(list(range(page * 4 - 4, min(10, page * 4))), None if last else f"/pages?page={page + 1}")


@service.get("/refusals/{kind}", errors=(NotFound, TooLate))
async def refuse(kind: str) -> None:
    """Always refuses."""
    if kind == "late":
        raise TooLate("It was over an hour ago.", since=3600)
    if kind == "busy":
        raise TooManyRequests("Come back.", headers={"Retry-After": "60"})
    if kind == "broken":
        raise RuntimeError("nobody is to see this")
    raise NotFound("There is no such thing.")


@service.get("/flaky/{name}")
async def flaky(name: str) -> int:
    """Works at the third attempt."""
    return _third(name)


@service.post("/flaky/{name}")
async def flaky_once(name: str) -> int:
    """Works at the third attempt, and may not be repeated."""
    return _third(name)


def _third(name: str) -> int:
    tried[name] = tried.get(name, 0) + 1
    if tried[name] < 3:
        raise Unavailable("Not yet.")
    return tried[name]


@service.get("/slow")
async def slow(request: Request) -> str:
    """Takes a while, or until the caller has no more time."""
    tried["slow"] = int(request.headers.get("tenfold-timeout-ms", "0"))
    await asyncio.sleep(5)
    return "done"


@service.post("/files")
async def send_file(
    document: Upload,
    more: Annotated[list[Upload] | None, FileField()] = None,
    comment: Annotated[str | None, Form()] = None,
) -> list[Kept]:
    """Send files."""
    return [
        Kept(each.filename, len(await each.read()), each.content_type, comment)
        for each in [document, *(more or [])]
    ]


@service.post("/form")
async def fill_in(name: Annotated[str, Form()], age: Annotated[int | None, Form()] = None) -> str:
    """Fill in a form."""
    return f"{name} {age}"


@service.post("/two")
async def two_bodies(first: Note, second: Note | None = None) -> list[str]:
    """Two members of one body."""
    return [first.text, second.text if second else "-"]


@service.get("/download")
async def download() -> Stream:
    """Some bytes."""
    return Stream(iter([b"one ", b"two"]), "text/csv")


@service.get("/old", deprecated=True)
async def old() -> Redirect:
    """Went elsewhere."""
    return Redirect("/download")


@service.get("/events")
async def watch(request: Request) -> EventStream[Shape]:
    """Three shapes; the connection breaks after the second one, once."""
    return EventStream(_shapes(int(request.headers.get("last-event-id") or 0)))


async def _shapes(seen: int) -> AsyncIterator[Event]:
    for number in range(seen + 1, 4):
        if number == 3 and seen == 0:
            raise RuntimeError("the connection breaks here")
        yield Event(Circle(float(number)), event="shape", id=str(number))


@service.post("/raw")
async def take_raw(request: Request) -> int:
    """How many bytes came."""
    return len(await request.body())


@service.get("/anything")
async def anything():  # type: ignore[no-untyped-def]
    """Whatever."""
    return {"any": ["thing"]}


@service.get("/nothing")
async def nothing() -> None:
    """Nothing at all."""


app = App("every kind", [service], version="1.2.3")
