"""The shapes that a flow may take, by name."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from workcells.shapes import github_issue


@dataclass(frozen=True, slots=True)
class Shape:
    """How rows of one kind become the documented form, which subjects a row names, and which fields it has."""

    normalise: Callable[[dict[str, Any]], dict[str, Any]]
    mentions: Callable[[dict[str, Any]], Sequence[str]]
    fields: frozenset[str] | None = None
    """The fields that every documented row has; None for rows of any fields."""


SHAPES: dict[str, Shape] = {
    "github_issue": Shape(github_issue.normalise, github_issue.mentions, github_issue.FIELDS),
    # Rows as they are: the contract's own schema is all that they are held to.
    "json": Shape(lambda row: row, lambda _row: ()),
}
