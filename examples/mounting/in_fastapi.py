from fastapi import FastAPI

from mounting.notes import app

site = FastAPI(lifespan=app.lifespan)
site.mount("/api", app)


@site.get("/hello")
async def hello() -> str:
    return "This is FastAPI."
