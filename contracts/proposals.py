"""What may become of a proposal, of the clearance that it waits for, and of its apply. The database's CHECKs are made from these."""

from enum import StrEnum


class ProposalState(StrEnum):
    """The state of a proposal. Only an approved one is applied; every end but `applied` leaves the target as it was, as far as is known."""

    OPEN = "open"
    REPORT_ONLY = "report_only"
    APPROVED = "approved"
    REJECTED = "rejected"
    RETURNED = "returned"
    APPLIED = "applied"
    DRIFTED = "drifted"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"
    CANCELLED = "cancelled"
    FAILED = "failed"
    UNKNOWN = "unknown"


class ClearanceState(StrEnum):
    """What the people who were asked have answered together."""

    OPEN = "open"
    CLEARED = "cleared"
    REFUSED = "refused"
    RETURNED = "returned"
    VOID = "void"


class ApplyState(StrEnum):
    """What is known of one call to a target. The intent is recorded before the call."""

    INTENT = "intent"
    APPLIED = "applied"
    FAILED = "failed"
    UNKNOWN = "unknown"
