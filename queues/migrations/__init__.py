"""Alembic migrations; see queues/schema.py for how they are run."""
