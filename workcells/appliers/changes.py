"""What an action on an issue or pull request asks for, checked, and what the issue looks like afterwards.

| action | payload |
|---|---|
| `close` | `{"state": "closed", "state_reason"?: completed, not_planned or duplicate, "comment"?: {"body": …}}` |
| `reopen` | `{"state": "open", "comment"?: {"body": …}}` |
| `label` | `{"add"?: [names], "remove"?: [names]}` |
| `comment` | `{"body": …}` |

A payload with any other key is refused: what an applier does not understand, nobody can have approved.
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from contracts.nouns import Action
from workcells.appliers import SendRefused

ACTIONS = frozenset(("close", "reopen", "label", "comment"))
CLOSE_REASONS = ("completed", "not_planned", "duplicate")
COMMENT_CHARS = 65_000
"""GitHub takes 65,536 characters; the marker needs some of them."""
LABEL_CHARS = 50
MARKER_START = "<!-- shopfloor:"

FIELDS = frozenset(
    (
        "author", "author_association", "body", "body_sha256", "closed_at", "created_at", "draft", "kind", "labels",
        "locked", "merged_at", "state", "state_reason", "title",
    )
)  # fmt: skip
"""What can be observed of an issue. Not `updated_at` and `comments`: our own comment moves them."""

# An owner neither ends in "_" nor holds "__", so that `owner__repo` as a folder name stands for one repository only.
_TARGET = re.compile(
    r"(?P<owner>[a-z0-9.-]+(?:_[a-z0-9.-]+)*)/(?P<repo>[a-z0-9._-]+)#(?P<number>[1-9][0-9]{0,11})",
    re.ASCII | re.IGNORECASE,
)
_KEY = re.compile(r"[0-9a-f]{16,128}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Subject:
    """One issue or pull request by name; owner and repository in lower case, as GitHub compares them."""

    owner: str
    repo: str
    number: int

    @property
    def key(self) -> str:
        """The name as a subject key: `owner/repo#12`."""
        return f"{self.owner}/{self.repo}#{self.number}"


@dataclass(frozen=True, slots=True)
class Change:
    """One action as the set of things that it wants to be true."""

    state: Literal["open", "closed"] | None = None
    state_reason: str | None = None
    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    comment: str | None = None

    def after(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Return state, state_reason and labels as they are once the change is made to an issue with `facts`.

        What the payload does not name stays as it is: nobody has approved anything else. A target may add a reason of its own.
        """
        gone = {name.casefold() for name in self.remove}
        labels = [name for name in facts["labels"] if name.casefold() not in gone]
        there = {name.casefold() for name in labels}
        labels += [name for name in self.add if name.casefold() not in there]
        unsorted = labels == facts["labels"]  # nothing to change, so their order is not ours to change either
        return {
            "state": self.state or facts["state"],
            "state_reason": self.state_reason or facts["state_reason"],
            "labels": labels if unsorted else sorted(labels),
        }

    def moves(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Return what `after` holds and `facts` does not."""
        return {name: value for name, value in self.after(facts).items() if value != facts[name]}

    def must_fit(self, facts: Mapping[str, Any], target: str) -> None:
        """Return unless the change names a reason for closing a pull request. Raises SendRefused."""
        if self.state_reason and facts["kind"] == "pull_request":
            raise SendRefused(
                f"{target} is a pull request and has no state_reason: the payload asks for {self.state_reason!r}; propose it again without"
            )


def read_subject(target: str) -> Subject:
    """Return the issue that a target names. Raises SendRefused for anything but `owner/repo#number`."""
    match = _TARGET.fullmatch(target)
    if match is None or len(target) > 200 or {match["owner"], match["repo"]} & {".", ".."}:
        raise SendRefused(f"target {ascii(target)[:80]} is not the name of an issue: expected owner/repo#12")
    return Subject(match["owner"].lower(), match["repo"].lower(), int(match["number"]))


def read_key(key: str) -> str:
    """Return `key` when it can serve as a marker: 16 to 128 digits of lower-case hex."""
    if not _KEY.fullmatch(key):
        raise SendRefused(f"action id {ascii(key)[:40]} marks nothing: expected 16 to 128 digits of lower-case hex")
    return key


def read_change(action: Action) -> Change:
    """Return what the action asks for. Raises SendRefused for an unknown action, key or value."""
    payload = action.payload
    match action.name:
        case "close":
            _only(action, payload, {"state", "state_reason", "comment"}, {"state"})
            reason = payload.get("state_reason")
            if payload["state"] != "closed":
                raise _refused(action, "/state", "'closed'", payload["state"])
            if reason is not None and reason not in CLOSE_REASONS:
                raise _refused(action, "/state_reason", f"{', '.join(CLOSE_REASONS)} or null", reason)
            return Change(state="closed", state_reason=reason, comment=_optional_comment(action))
        case "reopen":
            _only(action, payload, {"state", "comment"}, {"state"})
            if payload["state"] != "open":
                raise _refused(action, "/state", "'open'", payload["state"])
            return Change(state="open", comment=_optional_comment(action))
        case "label":
            _only(action, payload, {"add", "remove"}, set())
            add, remove = _names(action, "add"), _names(action, "remove")
            both = {name.casefold() for name in add} & {name.casefold() for name in remove}
            if both or not (add or remove):
                raise _refused(action, "", "names to add or to remove, none of them in both lists", payload)
            return Change(add=add, remove=remove)
        case "comment":
            _only(action, payload, {"body"}, {"body"})
            return Change(comment=_text(action, "/body", payload["body"]))
    raise SendRefused(f"action {ascii(action.name)[:40]} is not one of {', '.join(sorted(ACTIONS))}")


def _optional_comment(action: Action) -> str | None:
    comment = action.payload.get("comment")
    if comment is None:
        return None
    if not isinstance(comment, dict):
        raise _refused(action, "/comment", "an object with a body", comment)
    _only(action, comment, {"body"}, {"body"}, "/comment")
    return _text(action, "/comment/body", comment["body"])


def _only(action: Action, given: Mapping[str, Any], known: set[str], needed: set[str], place: str = "") -> None:
    unknown, missing = sorted(set(given) - known), sorted(needed - set(given))
    if unknown or missing:
        seen = f"unknown {', '.join(map(ascii, unknown))}"[:120] if unknown else f"no {', '.join(missing)}"
        takes = ", ".join(sorted(known))
        raise SendRefused(f"{action.name} of {action.target}: payload{place} has {seen}; it takes {takes}")


def _names(action: Action, field: str) -> tuple[str, ...]:
    names = action.payload.get(field, [])
    if not isinstance(names, list) or len(names) > 100:
        raise _refused(action, f"/{field}", "a list of at most 100 label names", names)
    for name in names:
        # "." and ".." as the last step of an address would name the issue instead of the label.
        if not isinstance(name, str) or not 0 < len(name.strip()) <= LABEL_CHARS or name in (".", ".."):
            raise _refused(action, f"/{field}", f"label names of 1 to {LABEL_CHARS} characters", name)
        if any(unicodedata.category(c)[0] == "C" and c != "\u200d" for c in name):
            raise _refused(action, f"/{field}", "label names without control characters", name)
    return tuple(unicodedata.normalize("NFC", name) for name in names)


def _text(action: Action, field: str, body: Any) -> str:
    if not isinstance(body, str) or not body.strip() or len(body) > COMMENT_CHARS:
        raise _refused(action, field, f"text of 1 to {COMMENT_CHARS} characters", body)
    if MARKER_START in body:
        # It would make a later probe believe that another action has been applied.
        raise _refused(action, field, f"text without {MARKER_START!r}", MARKER_START)
    try:
        body.encode()
    except UnicodeEncodeError:
        raise _refused(action, field, "text without lone surrogates", body[:20]) from None
    return body


def _refused(action: Action, field: str, needed: str, seen: Any) -> SendRefused:
    return SendRefused(f"{action.name} of {action.target}: payload{field}: expected {needed}, got {ascii(seen)[:60]}")
