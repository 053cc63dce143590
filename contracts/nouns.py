"""The values that pass between rooms: frozen, validated, and free of behaviour."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Confidence = Annotated[float, Field(ge=0, le=1)]
Code = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*(\.[a-z0-9_]+)*$", max_length=80)]


class Noun(BaseModel):
    """A frozen value that refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Quote(Noun):
    """Exact text of a field of an item: `text == field[start:end]`, offsets in Unicode code points."""

    kind: Literal["quote"] = "quote"
    subject: str
    """Subject key of the item quoted, such as `owner/repo#12`."""
    field: Literal["title", "body", "labels"]
    start: Annotated[int, Field(ge=0)]
    end: Annotated[int, Field(ge=0)]
    text: str


class Citation(Noun):
    """Another item as a whole, at the revision that was read."""

    kind: Literal["item"] = "item"
    subject: str
    revision: str


class Evidence(Noun):
    """A claim, where it can be seen, and how far it carries."""

    claim: str
    stance: Literal["supports", "contradicts", "context"] = "supports"
    confidence: Confidence
    source: Annotated[Quote | Citation, Field(discriminator="kind")]


class Finding(Noun):
    """One typed observation: a defect in work, or what a review cell found."""

    code: Code
    message: str
    place: str = ""
    """JSON pointer into the value that the finding is about; empty for the whole."""


class Action(Noun):
    """A mutation of one target, in the words of its adapter. What runs is exactly this."""

    name: str
    """What is done, one of the actions that the contract may propose: `close`, `comment`, …"""
    target: str
    """Subject key of the thing to change."""
    payload: dict[str, Any]
    """The adapter's arguments, such as `{"state": "closed", "state_reason": "completed"}`."""
    precondition: dict[str, Any]
    """The declared fields of the target, as they were when the decision was made."""


class Draft(Noun):
    """Finished work that proposes nothing: `value` goes to the gate, then to the archive."""

    value: dict[str, Any]
    evidence: tuple[Evidence, ...] = ()
    confidence: Confidence = 1.0


class Proposal(Noun):
    """Finished work that asks for one mutation of the world."""

    value: dict[str, Any]
    action: Action
    evidence: tuple[Evidence, ...] = ()
    confidence: Confidence = 1.0


class Refusal(Noun):
    """The cell declines this item for a typed reason; the item ends `refused`."""

    code: Code
    message: str


class NeedInfo(Noun):
    """The cell cannot decide without an answer from a person."""

    question: str


class Escalation(Noun):
    """The cell hands the item to a person, with why."""

    message: str
    code: Code = "escalated"


Outcome = Draft | Proposal | Refusal | NeedInfo | Escalation
"""All that a cell may return. An exception is an accident, not an answer."""
