"""A guestbook over HTTP."""

import os

from fastapi import FastAPI
from sqlalchemy import select
from sqlalchemy.orm import Session

from guestbook.database import Entry, engine

app = FastAPI(title="guestbook")


@app.get("/healthz")
def health() -> dict[str, str]:
    # No table: a release is tried before its migrations are run.
    with Session(engine) as session:
        session.execute(select(1))
    return {"version": os.environ.get("ARTIFACT_VERSION", "")}


@app.get("/entries")
def entries() -> list[str]:
    with Session(engine) as session:
        return list(session.scalars(select(Entry.text).order_by(Entry.id)))


@app.post("/entries", status_code=201)
def write(text: str) -> None:
    with Session(engine, expire_on_commit=False) as session:
        session.add(Entry(text=text))
        session.commit()
