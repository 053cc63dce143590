"""Refusals: what the database's own functions answer, in words and with what to type."""

from collections.abc import Mapping
from typing import NoReturn
from uuid import UUID

import psycopg
from contracts.errors import ShopfloorError
from queues.database import first_line

Refusals = Mapping[str, tuple[type[ShopfloorError], str, str]]
"""SQLSTATE → the error that it is to a person, its code, and its hint, in which {id} is the thing's id."""


def explain(error: psycopg.Error, refusals: Refusals, what: str, about: UUID) -> NoReturn:
    """Raise what an answer of the database means to a person; anything else goes on as it is."""
    if error.sqlstate is None or error.sqlstate not in refusals:
        raise error
    kind, code, hint = refusals[error.sqlstate]
    raise kind(f"{what} {about}: {error.diag.message_primary or first_line(error)}", hint=hint.format(id=about), code=code) from None
