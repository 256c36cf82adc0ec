from alembic import context
from sqlalchemy import create_engine, pool

from guestbook.database import Base, url

engine = create_engine(url(), poolclass=pool.NullPool)
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=Base.metadata)
    with context.begin_transaction():
        context.run_migrations()
