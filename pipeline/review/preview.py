"""What a proposal would do to its target as the target is now. Reads the target; sends nothing."""

from collections.abc import Mapping
from typing import Any

from contracts.envelope import action_of, changed_fields
from contracts.errors import ShopfloorError
from pipeline.startup.appliers import opened
from pipeline.startup.compose import Shop

OPEN_ADAPTERS = frozenset({"tracker", "sink"})
"""Adapters whose target a reviewer's shell may read: they need no credentials of apply's."""


def against_target(shop: Shop, envelope: Mapping[str, Any]) -> dict[str, Any]:
    """Return the diff of an envelope's action against the live target, and what changed since the decision was made.

    Keys: `diff`; `changed`, field by field what the precondition says and what is seen; `error` when the target could
    not be read, and then the others are empty. Uses the adapter's own credentials: those of whoever calls this.
    """
    action = action_of(dict(envelope))
    try:
        adapter = opened(shop, [envelope["adapter"]])[envelope["adapter"]]
        declared = action.precondition
        seen = adapter.observe(action.target, sorted(declared))
        changed = {name: {"then": declared[name], "now": seen.get(name)} for name in changed_fields(declared, seen)}
        return {"diff": adapter.preview(action), "changed": changed, "error": ""}
    except ShopfloorError as error:
        return {"diff": "", "changed": {}, "error": str(error)}
