"""What a change would do to its target, as lines that are safe to print on a terminal."""

import difflib
from collections.abc import Mapping
from typing import Any

from contracts.excerpts import visible


def difference(target: str, before: Mapping[str, Any], after: Mapping[str, Any], comment: str | None) -> str:
    """Return the unified diff between two sets of facts, with `comment` as added lines; empty when nothing differs."""
    old, new = _lines(before), _lines(after)
    if comment is not None:
        new += ["comment:", *("| " + visible(line, keep="\t") for line in comment.split("\n"))]
    name = visible(target)
    return "\n".join(difflib.unified_diff(old, new, f"{name} as it is", f"{name} as it would be", n=99, lineterm=""))


def _lines(facts: Mapping[str, Any]) -> list[str]:
    given = [name for name in ("title", "state", "state_reason") if facts[name] is not None]
    lines = [f"{name}: {visible(str(facts[name]))}" for name in given]
    return lines + [f"label: {visible(name)}" for name in facts["labels"]]
