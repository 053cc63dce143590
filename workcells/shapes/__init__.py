"""Row shapes: each module turns the rows of one kind of export into one documented form.

A shape module exports `normalise(row) -> dict`, which raises `RowRefused` for a row that it cannot vouch
for, and `mentions(normalised) -> tuple[str, ...]`, the subject keys that the row's text names.
"""

from typing import ClassVar

from contracts.errors import BadInput


class RowRefused(BadInput):
    """One row cannot be used: `instance_code` is one of `contracts.errors.ROW_CODES`, `field` a JSON pointer."""

    code: ClassVar[str] = "intake.value"

    def __init__(self, code: str, field: str, message: str) -> None:
        super().__init__(message, code=code)
        self.field = field
