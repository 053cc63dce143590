"""Invariant 10, and the bytes of 7: what was made satisfies the contract it was made under."""

import hashlib
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import orjson
from psycopg.rows import TupleRow
from contracts.contract import Contract
from contracts.envelope import ENVELOPE_KIND, differing
from contracts.errors import BadInput
from contracts.language import OUTCOMES, parse_contract
from contracts.nouns import Finding
from pipeline.doctor.invariants.checking import CheckContext, ViolationCounts

_CHUNK = 2_000


def check_contracts(context: CheckContext, counts: ViolationCounts) -> None:
    """Note published contracts whose bytes are not those that were published, or are no contract."""
    rows = context.conn.execute("SELECT name, version, sha256, body FROM inspect.contracts ORDER BY name, version")
    for name, version, sha256, body in rows:
        data = body.encode()
        if hashlib.sha256(data).hexdigest() != sha256:
            counts.add(10, f"contract {name}@{version} changed after it was published: its bytes do not hash to {sha256}")
            continue
        try:
            contract = parse_contract(data)
        except BadInput as error:
            counts.add(10, f"contract {name}@{version} cannot be used: {error.message}")
            continue
        if contract.key != f"{name}@{version}":
            counts.add(10, f"contract {name}@{version} holds the contract {contract.key}")


# Bytes that are missing or do not match their name are invariant 9's to tell. A body on disk is read by its name.
_ARTIFACTS = """
SELECT a.id, a.item_id, a.contract_id, coalesce(q.contract_id, z.contract_id), a.kind, a.sha256, b.bytes,
       p.id, p.action, p.adapter, p.target, p.epoch, p.precondition_sha256, p.expires_at
  FROM artifacts a LEFT JOIN bodies b ON b.item_id = a.item_id AND b.sha256 = a.sha256
  LEFT JOIN queue q ON q.item_id = a.item_id LEFT JOIN archived_items z ON z.item_id = a.item_id
  LEFT JOIN proposals p ON p.item_id = a.item_id AND p.sha256 = a.sha256
 WHERE a.erased_at IS NULL
"""


def check_artifacts(context: CheckContext, counts: ViolationCounts) -> None:
    """Note artifacts that break their pinned contract, and envelopes that say other than the rows beside them."""
    for artifact, item, contract_id, pinned, kind, sha256, data, *proposal in _rows(context, _ARTIFACTS):
        contract = context.pins.contracts.get(contract_id)
        if contract_id is None or (pinned is not None and pinned != contract_id):
            counts.add(10, f"artifact {artifact} of item {item} was made under contract row {contract_id}, its item is pinned to {pinned}")
        value = _value(context, sha256, data)
        if value is None or contract is None:
            continue
        problem = None
        if kind == ENVELOPE_KIND:
            problem = _envelope_problem(contract, value)
            if not problem and proposal[0] is not None:
                for name in _differing(value, item, contract, *proposal[1:]):
                    counts.add(7, f"proposal {proposal[0]} of item {item}: its row and its approved bytes differ in {name}")
        elif kind != contract.gives_name:
            problem = f"is a {kind}, expected {contract.gives_name}"
        elif not contract.gives.is_valid(value):
            problem = _first(contract.output_findings(value))
        if problem:
            counts.add(10, f"artifact {artifact} of item {item} breaks {contract.key}: {problem}")


def _first(findings: tuple[Finding, ...]) -> str:
    return f"{findings[0].place} {findings[0].message}".lstrip() if findings else ""


def _differing(envelope: Any, item: UUID, contract: Contract, *row: Any) -> list[str]:
    found = differing(envelope, item, *row)
    return found if envelope.get("contract") == contract.key else [*found, "contract"]


def _envelope_problem(contract: Contract, envelope: Any) -> str:
    try:
        return _first(contract.action_findings(envelope["action"], envelope["payload"]))
    except (KeyError, TypeError):
        return "expected the fields of an envelope"


_ATTEMPTS = """
SELECT t.item_id, t.fence, t.contract_id, coalesce(q.contract_id, z.contract_id), t.outcome,
       t.input_sha256, i.bytes, t.output_sha256, o.bytes
  FROM attempts t LEFT JOIN bodies i ON i.item_id = t.item_id AND i.sha256 = t.input_sha256
  LEFT JOIN bodies o ON o.item_id = t.item_id AND o.sha256 = t.output_sha256
  LEFT JOIN queue q ON q.item_id = t.item_id LEFT JOIN archived_items z ON z.item_id = t.item_id
 WHERE t.stage = 'workcell'
"""


def check_attempts(context: CheckContext, counts: ViolationCounts) -> None:
    """Note executions that took what their contract does not take, or left what is none of the outcomes."""
    for item, fence, contract_id, pinned, outcome, input_sha256, taken, output_sha256, given in _rows(context, _ATTEMPTS):
        contract = context.pins.contracts.get(contract_id)
        if contract_id is None or (pinned is not None and contract_id != pinned):
            counts.add(10, f"attempt {item}/{fence} ran under contract row {contract_id}, its item is pinned to {pinned}")
        value = _value(context, input_sha256, taken)
        if contract is not None and value is not None and not contract.takes.is_valid(value):
            counts.add(10, f"attempt {item}/{fence} took what {contract.key} does not take: {_first(contract.input_findings(value))}")
        wrapper = _value(context, output_sha256, given) if output_sha256 is not None else None
        if output_sha256 is None and outcome in OUTCOMES:
            counts.add(10, f"attempt {item}/{fence} gave a {outcome} and left no bytes")
        elif wrapper is not None and (outcome not in OUTCOMES or _outcome_of(wrapper) != outcome):
            counts.add(10, f"attempt {item}/{fence} is filed as {outcome}, its bytes say {_outcome_of(wrapper)[:40]}")


def _outcome_of(wrapper: Any) -> str:
    return str(wrapper.get("is")) if isinstance(wrapper, dict) else "nothing"


def _rows(context: CheckContext, query: str) -> Iterator[TupleRow]:
    """Yield the rows of a query a few thousand at a time, through a cursor on the server."""
    with context.conn.cursor(name="validity", binary=True) as cursor:
        cursor.itersize = _CHUNK
        yield from cursor.execute(query)


def _value(context: CheckContext, sha256: bytes, data: bytes | None) -> Any:
    """Return the JSON value of a body that is there and whole, else None."""
    if data is None:
        path = context.store.path(sha256)
        data = path.read_bytes() if path.exists() else b""
    if hashlib.sha256(data).digest() != sha256:
        return None
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
