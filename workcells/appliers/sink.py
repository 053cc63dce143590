"""The target of the reference work: takes every action, changes nothing, keeps nothing.

It is what a load generator applies to when the line itself is to be measured. Nothing that matters may be routed to it:
a receipt from a sink says that the action got this far, and not that anything happened.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

from contracts.nouns import Action
from workcells.appliers import Idempotency, Probed, Receipt


class Sink:
    """An applier without a target. Native idempotency holds trivially: no second send can differ from the first."""

    name: ClassVar[str] = "sink"
    idempotency: ClassVar[Idempotency] = "native"
    actions: ClassVar[frozenset[str] | None] = None
    fields: ClassVar[frozenset[str] | None] = None
    settle_seconds = 0.0

    def check(self, action: Action) -> None:
        """Return, whatever the action."""

    def observe(self, target: str, fields: Sequence[str]) -> dict[str, Any]:  # noqa: ARG002 - the protocol names it
        """Return None for every field: there is nothing to see, so only a precondition of nulls is met."""
        return dict.fromkeys(fields)

    def send(self, action: Action, *, key: str) -> Receipt:
        """Return a receipt; nothing was changed."""
        return Receipt(self.name, action.target, key, changed=False, detail={})

    def probe(self, action: Action, *, key: str, seconds_since_sent: float) -> Probed:  # noqa: ARG002 - likewise
        """Return `absent`: nothing is kept, and sending again is harmless."""
        return "absent"

    def preview(self, action: Action) -> str:  # noqa: ARG002 - likewise
        """Return no lines: nothing would change."""
        return ""
