"""Alembic's entry: runs the versions on the connection that queues/schema.py hands over."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    version_table="schema_version",
    version_table_schema="shopfloor",
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
