"""The envelope: one string of bytes that is shown, approved, sent and named. Nothing else is approved."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from contracts.canonical import canonical
from contracts.nouns import Action

ENVELOPE_KIND = "proposal@1"


@dataclass(frozen=True, slots=True)
class Envelope:
    """A sealed proposal: canonical bytes, their hash, and the parts that rows repeat."""

    data: bytes
    sha256: bytes
    precondition_sha256: bytes
    epoch: int
    expires_at: datetime


def seal(
    action: Action, *, artifact_sha256: str, contract: str, policy_sha256: str, adapter: str, expires_at: datetime, epoch: int, item: str
) -> Envelope:
    """Return the envelope of an action: RFC 8785 canonical JSON over everything that an approval binds."""
    precondition = canonical(action.precondition)
    payload = canonical(action.payload)
    # Whole seconds: the row and the bytes must name the same instant.
    until = expires_at.replace(microsecond=0)
    body: dict[str, Any] = {
        "envelope": 1,
        "item": item,
        "epoch": epoch,
        "adapter": adapter,
        "action": action.name,
        "target": action.target,
        "payload": action.payload,
        "payload_sha256": hashlib.sha256(payload).hexdigest(),
        "precondition": action.precondition,
        "artifact_sha256": artifact_sha256,
        "contract": contract,
        "policy_sha256": policy_sha256,
        "expires_at": until.isoformat(),
    }
    data = canonical(body)
    return Envelope(data, hashlib.sha256(data).digest(), hashlib.sha256(precondition).digest(), epoch, until)


def differing(
    envelope: dict[str, Any], item: UUID, action: str, adapter: str, target: str, epoch: int, precondition_sha256: bytes, expires_at: datetime
) -> list[str]:  # fmt: skip
    """Return the names of the parts that a proposal's row repeats otherwise than its envelope has them."""
    rows = {"item": str(item), "action": action, "target": target, "adapter": adapter, "epoch": epoch}
    found = [name for name, seen in rows.items() if envelope.get(name) != seen]
    try:
        if hashlib.sha256(canonical(envelope["payload"])).hexdigest() != envelope["payload_sha256"]:
            found.append("payload_sha256")
        if hashlib.sha256(canonical(envelope["precondition"])).digest() != precondition_sha256:
            found.append("precondition")
        if datetime.fromisoformat(envelope["expires_at"]) != expires_at:
            found.append("expires_at")
    except (KeyError, TypeError, ValueError):
        found.append("its very form")
    return found


def changed_fields(precondition: Mapping[str, Any], seen: Mapping[str, Any]) -> list[str]:
    """Return the fields of a precondition that a target has otherwise now, sorted: any of them is drift."""
    return sorted(name for name, value in precondition.items() if seen.get(name) != value)


def action_of(envelope: dict[str, Any]) -> Action:
    """Return the action that an envelope holds; what runs is built from the approved bytes alone."""
    return Action(name=envelope["action"], target=envelope["target"], payload=envelope["payload"], precondition=envelope["precondition"])


def action_id(proposal_sha256: bytes, target: str) -> bytes:
    """Return the 32 bytes that name one mutation of one target: SHA-256 over the proposal's hash and the target."""
    return hashlib.sha256(proposal_sha256 + b"\0" + target.encode()).digest()
