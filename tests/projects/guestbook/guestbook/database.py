"""Where the entries are."""

import os

from sqlalchemy import String, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """What Alembic compares the database with."""


class Entry(Base):
    """What a visitor wrote."""

    __tablename__ = "entry"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(String(200))


def url() -> str:
    return os.environ.get("DATABASE_URL", "sqlite:///guestbook.sqlite3")


engine = create_engine(url())
