from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from starlette.staticfiles import StaticFiles

from mounting.notes import notes
from tenfold import App, Service, public


@asynccontextmanager
async def lifespan(legacy: FastAPI) -> AsyncGenerator[None]:
    legacy.state.greeting = "This is FastAPI."
    yield


legacy = FastAPI(lifespan=lifespan)


@legacy.get("/hello")
async def hello() -> str:
    greeting: str = legacy.state.greeting
    return greeting


site = Service("site")
site.mount("/legacy", legacy, auth=public)
site.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"), auth=public)

app = App("inside", [notes, site])
