"""One leased item as a worker works on it, and what a stage decided for it.

Stages read `Work`, return a `Step` and change neither. Only the advance loop and the commit change work.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID

from artifacts.shelf import Record
from contracts.attempts import Cause
from contracts.lifecycle import Move, Stage, State, Wait, move
from contracts.nouns import Evidence, Finding, Outcome
from contracts.proposals import ApplyState, ProposalState
from queues.claims import Claimed


class Product(NamedTuple):
    """What a cell gave, as it travels from the workcell to the gate."""

    outcome: Outcome
    value: dict[str, Any]
    value_bytes: bytes
    value_sha256: bytes
    evidence: Sequence[Evidence] = ()
    artifact_id: UUID | None = None
    is_checked: bool = False
    """True once the artifact stage has held it to the contract under this claim."""


class ApplyEnd(NamedTuple):
    """The end of one apply and of its proposal."""

    proposal_id: UUID
    proposal_state: ProposalState
    apply_id: UUID | None = None
    """None when nothing was sent: the target had drifted, or the approval no longer held."""
    apply_state: ApplyState | None = None
    receipt: bytes = b""


class Step(NamedTuple):
    """Where an item goes from a stage, and what is written when it gets there."""

    move: Move
    lane: str
    """Lane that the item is in afterwards."""
    from_lane: str
    note: str = ""
    wait: Wait | None = None
    waiting_on: str = ""
    cause: Cause | None = None
    delay_seconds: float = 0.0
    contract_id: int | None = None
    priority: int | None = None
    round: bool = False
    """True when a rework round begins."""
    finding: str | None = None
    """What the item is filed under, once a stage knows it; empty when that is nothing."""
    records: Sequence[Record] = ()
    tier: str = ""
    """Tier of the clearance to open; empty when nothing is proposed."""
    applied: ApplyEnd | None = None
    """How an apply ended; written with the move."""
    product: Product | None = None
    """What the next stage works from; None leaves it as it is."""


@dataclass(slots=True)
class Work:
    """One leased item with what has been loaded or made for it so far."""

    claimed: Claimed
    claim_id: UUID
    """The claim that it is leased under."""
    stage: Stage
    lane: str
    fence: int
    """The fence that the next commit must find; for fused stages, that of the lease in memory."""
    payload: dict[str, Any] = field(default_factory=dict)
    as_of: str = ""
    contract_id: int | None = None
    product: Product | None = None
    finding: str | None = None
    """What the item is filed under, once a stage knows it."""
    findings: Sequence[Finding] = ()
    """What was found in earlier attempts; loaded for the workcell in a rework round."""
    chain: list[Step] = field(default_factory=list)
    """Steps taken in memory since the last commit, oldest first. Each is written as a carry, which opens a lease."""

    @property
    def committed_fence(self) -> int:
        """The fence in the database: that of the lease before the steps taken in memory."""
        return self.fence - len(self.chain)

    @property
    def item_id(self) -> UUID:
        """The item's id."""
        return self.claimed.item_id


def leave(work: Work, by: Move, lane: str, **more: Any) -> Step:
    """Return the step that takes an item out of its lane by a given move."""
    return Step(by, lane, work.lane, **more)


def onward(work: Work, to: Stage, lane: str, **more: Any) -> Step:
    """Return the step to the next stage; the commit turns it into a carry where this worker may go on."""
    return Step(move("hand_on", work.stage, State.LEASED, to), lane, work.lane, **more)


def stay(work: Work, name: str, **more: Any) -> Step:
    """Return a step that gives up the lease within the same stage: retry, give_back, escalate, refuse, bury."""
    return Step(move(name, work.stage, State.LEASED), work.lane, work.lane, **more)


def not_begun(work: Work, **more: Any) -> Step:
    """Return the step of an item whose group is late: it goes back to its lane, for whoever is free."""
    return stay(work, "give_back", note="not begun: the items before it were slow", **more)
