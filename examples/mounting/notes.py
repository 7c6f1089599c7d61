from typing import Annotated

import sqlalchemy as sa
from msgspec import Meta, Struct

from tenfold import App, Service, Tx, injected, public
from tenfold.errors import NotFound

notes = Service("notes", auth=public)

metadata = sa.MetaData()
note_table = sa.Table(
    "notes",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("text", sa.String(200), nullable=False),
    sa.Column("words", sa.Integer),
)
db = notes.database(metadata)


class NewNote(Struct):
    text: Annotated[str, Meta(min_length=1, max_length=200)]


class Note(Struct):
    id: int
    text: str
    words: int | None


_by_id = sa.select(note_table).where(note_table.c.id == sa.bindparam("id"))
_add = sa.insert(note_table).returning(note_table)
_set_words = (
    sa.update(note_table).where(note_table.c.id == sa.bindparam("id_")).values(words=sa.bindparam("count"))
)


@notes.post("/notes", status=201)
async def add_note(note: NewNote, tx: Tx) -> Note:
    """Write a note; its words are counted in the background."""
    row = await tx.one(_add, Note, text=note.text)
    await count_words.enqueue(tx, note_id=row.id)
    return row


@notes.get("/notes/{note_id}", errors=(NotFound,))
async def get_note(note_id: int) -> Note:
    note = await db.read().maybe(_by_id, Note, id=note_id)
    if note is None:
        raise NotFound(f"There is no note {note_id}.")
    return note


@notes.job()
async def count_words(note_id: int, tx: Tx = injected()) -> None:
    note = await tx.one(_by_id, Note, id=note_id)
    await tx.execute(_set_words, id_=note_id, count=len(note.text.split()))


app = App("notes", [notes])
