import sqlalchemy as sa
from fastapi import FastAPI
from pydantic import BaseModel

from tenfold import App, Retry, Service

# A service without operations: tables, jobs and events for an application that exists.
work = Service("work")

metadata = sa.MetaData()
signup_table = sa.Table(
    "signups",
    metadata,
    sa.Column("email", sa.String(254), primary_key=True),
    sa.Column("welcomed", sa.Boolean, nullable=False, default=False),
)
db = work.database(metadata)


class Signup(BaseModel):
    email: str
    welcomed: bool = False


@work.job(retry=Retry(attempts=8))
async def welcome(email: str) -> None:
    async with db.tx() as tx:
        await tx.execute(sa.update(signup_table).where(signup_table.c.email == email).values(welcomed=True))


app = App("pieces", [work])
site = FastAPI(lifespan=app.lifespan)


@site.post("/signups", status_code=201)
async def sign_up(signup: Signup) -> Signup:
    async with db.tx() as tx:
        await tx.execute(sa.insert(signup_table), {"email": signup.email, "welcomed": False})
        await welcome.enqueue(tx, email=signup.email)  # exists if and only if the row does
    return signup


@site.get("/signups")
async def list_signups() -> list[Signup]:
    return await db.read().all(sa.select(signup_table).order_by(signup_table.c.email), Signup)
