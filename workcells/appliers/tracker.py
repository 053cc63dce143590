"""A local tracker: a folder with one JSON file per issue. The target of a first run, and one that needs no network.

An issue file holds the fields of the row shape plus two lists of ours: `comments` (`{key, author, at, body}`) and
`applied` (`{key, action, at}`). An action and its comment become true in one rename, so there is no state in between.
The key in `applied` is what makes a second send of the same action do nothing, even when a person has since reopened
the issue.
"""

import hashlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from contracts.nouns import Action
from workcells.appliers import Idempotency, Probed, Receipt, TargetMissing, TargetUnavailable, known_fields
from workcells.appliers.changes import ACTIONS, FIELDS, Change, read_change, read_key, read_subject
from workcells.appliers.preview import difference
from workcells.appliers.tracker_files import load, locked, path_of, replace

AUTHOR = "shopfloor"


def _now() -> datetime:
    return datetime.now(UTC)


class Tracker:
    """An applier for the issue files under one folder."""

    name: ClassVar[str] = "tracker"
    idempotency: ClassVar[Idempotency] = "convergent"
    actions: ClassVar[frozenset[str] | None] = ACTIONS
    fields: ClassVar[frozenset[str] | None] = FIELDS
    settle_seconds = 0.0

    def __init__(self, folder: Path | str, *, now: Callable[[], datetime] = _now, lock_seconds: float = 10) -> None:
        self.folder = Path(folder).absolute()
        self._now = now
        self._lock_seconds = lock_seconds

    def check(self, action: Action) -> None:
        """Return when `send` would accept the action. Raises SendRefused."""
        read_subject(action.target)
        read_change(action)

    def observe(self, target: str, fields: Sequence[str]) -> dict[str, Any]:
        """Return the fields as the issue file has them now. Takes no lock: a file is only ever replaced whole."""
        known_fields(self, fields)
        document, _ = load(path_of(self.folder, read_subject(target)))
        return {name: _value(document, name) for name in fields}

    def send(self, action: Action, *, key: str) -> Receipt:
        """Make the action true in the issue file, once per key."""
        subject, change, key = read_subject(action.target), read_change(action), read_key(key)
        path = path_of(self.folder, subject)
        if not path.exists():
            load(path)  # says what is missing; the lock would leave a file for an issue that is not there
        detail: dict[str, Any] = {"file": f"{path.parent.name}/{path.name}"}
        with locked(path, wait_seconds=self._lock_seconds):
            document, seen = load(path)
            change.must_fit(document, action.target)
            if _has(document, key):
                return Receipt(self.name, action.target, key, changed=False, detail=detail | {"did": []})
            at = self._now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            did = _carry_out(document, change, key, at)
            document["applied"].append({"key": key, "action": action.name, "at": at})
            replace(path, document, seen=seen)
        return Receipt(self.name, action.target, key, changed=bool(did), detail=detail | {"did": did, "at": at})

    def probe(self, action: Action, *, key: str, seconds_since_sent: float) -> Probed:  # noqa: ARG002 - a file hides nothing
        """Return `applied` when the file holds the key, else `absent`; `unknown` when there is no readable file."""
        try:
            document, _ = load(path_of(self.folder, read_subject(action.target)))
        except TargetMissing:
            return "unknown"
        except TargetUnavailable as error:
            if error.instance_code == "target.malformed":
                return "unknown"
            raise
        return "applied" if _has(document, key) else "absent"

    def preview(self, action: Action) -> str:
        """Return what `send` would change in the issue file."""
        change = read_change(action)
        document, _ = load(path_of(self.folder, read_subject(action.target)))
        change.must_fit(document, action.target)
        return difference(action.target, document, document | change.after(document), change.comment)


class DemoTracker(Tracker):
    """The tracker of the demo: a folder of its own, so that it changes nothing of anybody's."""

    name: ClassVar[str] = "demo"


def _value(document: dict[str, Any], name: str) -> Any:
    if name == "body_sha256":
        return hashlib.sha256(document["body"].encode(errors="surrogatepass")).hexdigest()
    return sorted(document["labels"]) if name == "labels" else document.get(name)


def _has(document: dict[str, Any], key: str) -> bool:
    return any(one.get("key") == key for one in (*document["applied"], *document["comments"]))


def _carry_out(document: dict[str, Any], change: Change, key: str, at: str) -> list[str]:
    """Change the document in place and return what had to be changed."""
    moved = change.moves(document)
    if "state" in moved:
        document["closed_at"] = at if moved["state"] == "closed" else None
    document |= moved
    did = sorted(moved)
    if change.comment is not None:
        document["comments"].append({"key": key, "author": AUTHOR, "at": at, "body": change.comment})
        did.append("comment")
    if did:
        document["updated_at"] = at
    return did
