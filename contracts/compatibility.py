"""Whether a new version of a contract can take the place of an older one without its users noticing.

What a cell takes may only grow, what it gives may only shrink: every item that the old version took is taken, and whoever reads a value
of the new version finds one that the old one could have given. Decided by subsumption of schemas; what cannot be decided counts as breaking.
"""

from collections.abc import Iterable
from typing import Any

import jsonschema_rs
from contracts.contract import Contract, Version
from contracts.validation import PATTERNS


def predecessor(version: Version, others: Iterable[Version]) -> Version | None:
    """Return the newest of `others` that `version` claims to be compatible with; None where it claims that of none.

    By semantic versioning (2.0.0, §4 and §8): within one major version, before 1.0.0 within one minor version.
    """

    def series(each: Version) -> tuple[int, ...]:
        return (each.major,) if each.major else (each.major, each.minor)

    return max((other for other in others if series(other) == series(version) and other < version), default=None)


def breaking_changes(old: Contract, new: Contract) -> list[str]:
    """Return what of `new` breaks the users of `old`, a line each; empty when nothing does."""
    changes = []
    if new.takes_name != old.takes_name:
        changes.append(f"it takes {new.takes_name} instead of {old.takes_name}")
    elif not _covers(new.takes_schema, old.takes_schema):
        changes.append(f"takes: {_why(old.takes_schema, new.takes_schema) or 'not every item that the old one took is taken'}")
    if new.gives_name != old.gives_name:
        changes.append(f"it gives {new.gives_name} instead of {old.gives_name}")
    elif not _covers(old.gives_schema, new.gives_schema):
        changes.append(f"gives: {_why(new.gives_schema, old.gives_schema) or 'it may give a value that the old one could not'}")
    return changes


def _covers(wide: Any, narrow: Any) -> bool:
    """Return whether every value of `narrow` is one of `wide`; False where that cannot be decided."""
    if wide == narrow:
        return True
    try:
        one, other = (
            jsonschema_rs.canonicalize(schema, validate_formats=True, pattern_options=PATTERNS, offline=True) for schema in (wide, narrow)
        )
        return one.covers(other) == jsonschema_rs.canonical.Containment.YES
    except jsonschema_rs.canonical.CanonicalizationError:
        return False


def _why(narrow: Any, wide: Any) -> str:
    """Return in which top-level field a value of `narrow` may fail `wide`; empty when that does not show in one field."""
    if not (isinstance(narrow, dict) and isinstance(wide, dict)):
        return ""
    required = sorted(set(wide.get("required", ())) - set(narrow.get("required", ())))
    if required:
        return f"{', '.join(required)} {'is' if len(required) == 1 else 'are'} required, and may be missing"
    before, after = narrow.get("properties", {}), wide.get("properties", {})
    if wide.get("additionalProperties") is False and (unknown := sorted(set(before) - set(after))):
        return f"{', '.join(unknown)} {'is' if len(unknown) == 1 else 'are'} not known there"
    changed = sorted(name for name in set(before) & set(after) if not _covers(after[name], before[name]))
    return f"not every value of {', '.join(changed)} fits" if changed else ""
