"""Runs migrations on the connection that the ledger gives; there is no alembic.ini and no URL here."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
