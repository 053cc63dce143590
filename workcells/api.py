"""What the author of a cell imports: the decorator, the Bench, and the five answers.

from workcells.api import Bench, Draft, Proposal, Refusal, cell

@cell
def review(item, bench):
return Draft(value={"label": "question"})
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from contracts.nouns import Action, Citation, Draft, Escalation, Evidence, Finding, NeedInfo, Outcome, Proposal, Quote, Refusal

__all__ = [
    "Action", "Bench", "Citation", "Draft", "Escalation", "Evidence", "Finding", "NeedInfo", "Outcome", "Proposal",
    "Quote", "Refusal", "Wanted", "cell",
]  # fmt: skip

Wanted = tuple[str, dict[str, Any]]
"""A tool call that a cell will make for an item: tool name and keyword arguments."""


class Bench(Protocol):
    """What a running cell is handed. Everything else is out of reach."""

    as_of: str
    """The data's own now, ISO 8601 UTC: rules about age count from it, never from the wall clock."""
    findings: Sequence[Finding]
    """What the gate found in the attempt before; empty on the first one."""

    def call(self, tool: str, **arguments: Any) -> Any:
        """Return the tool's answer. Raises ToolDenied unless the contract allows the tool."""


@dataclass(frozen=True, slots=True)
class CellCode:
    """A marked cell function with what it wants looked up for a whole batch at once."""

    run: Callable[[dict[str, Any], Bench], Outcome]
    wants: Callable[[dict[str, Any]], Sequence[Wanted]] | None


def cell(function: Callable[..., Outcome] | None = None, *, wants: Callable[[dict[str, Any]], Sequence[Wanted]] | None = None) -> Any:
    """Mark the one function of `cell.py` that does the job: `f(item, bench) -> Draft | Proposal | …`.

    `wants(item)` may name tool calls that `f` will make; they are answered for the whole batch in one go, and
    `bench.call` with the same arguments then costs nothing. It is an optimisation and changes no answer.
    """

    def mark(run: Callable[..., Outcome]) -> CellCode:
        return CellCode(run, wants)

    return mark(function) if function else mark
