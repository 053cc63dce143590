"""The contract of a cell: what it takes, gives, may call, may propose, and what its work is held to."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

from contracts.attempts import CEILINGS, Cause
from contracts.canonical import canonical, digest, sha256_hex
from contracts.documents import Document, load_json, read_yaml
from contracts.errors import BadContract, ExpressionFailed
from contracts.excerpts import printable
from contracts.expressions import Expression
from contracts.nouns import Finding
from contracts.schemas import Validator, check_document, check_schema

DEFAULT_SECONDS = 60
DEFAULT_BYTES = 262_144
QA_VARIABLES = ("item", "output", "as_of")
"""What the expression of a rule may look at."""

OnFail = Literal["rework", "person", "refuse"]
Tier = Literal["none", "single", "dual"]


class Version(NamedTuple):
    """A semantic version: breaking changes raise `major`."""

    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


class Uncertainty(NamedTuple):
    """What happens to a value whose confidence is under `below`."""

    below: float
    then: Literal["refuse", "escalate", "ask"]


@dataclass(frozen=True, slots=True)
class Check:
    """One check of the gate."""

    kind: Literal["schema", "evidence", "rule"]
    name: str
    code: str
    message: str
    on_fail: OnFail = "rework"
    expression: Expression | None = None
    """Of a rule: true when all is well."""

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Return whether a rule holds for `item`, `output`, `as_of`. Raises ExpressionFailed when it has no answer."""
        assert self.expression is not None, "schema and evidence are checked by the gate itself"
        return self.expression.is_true(values)


@dataclass(frozen=True)
class ProposeClause:
    """What a cell may propose under the name of one action."""

    action: str
    depends_on: tuple[str, ...]
    """Fields of the target that the decision rests on; a change in any of them voids the proposal."""
    tier: Tier
    payload_schema: Any = True

    @cached_property
    def payload(self) -> Validator:
        """The compiled schema of the adapter's arguments."""
        return Validator(self.payload_schema)


@dataclass(frozen=True, eq=False)
class Contract:
    """A checked contract. Two contracts are equal when their canonical bytes are."""

    body: bytes
    """Canonical JSON of the document: what is stored, hashed and pinned."""
    sha256: str
    name: str
    version: Version
    summary: str
    takes_name: str
    takes_schema: Any
    gives_name: str
    gives_schema: Any
    evidence_required: bool
    evidence_sources: tuple[str, ...]
    tools_allow: tuple[str, ...]
    tools_deny: tuple[str, ...]
    max_seconds: int
    max_bytes: int
    ceilings: Mapping[Cause, int]
    uncertainty: Uncertainty | None
    qa: tuple[Check, ...]
    proposes: Mapping[str, ProposeClause]
    waits: bool = False
    """The cell waits for others most of its time: a worker keeps many of its items in flight at once."""

    @property
    def key(self) -> str:
        """Name and version, such as `issue_review@1.0.0`."""
        return f"{self.name}@{self.version}"

    @cached_property
    def takes(self) -> Validator:
        """The compiled schema of items."""
        return Validator(self.takes_schema)

    @cached_property
    def gives(self) -> Validator:
        """The compiled schema of values."""
        return Validator(self.gives_schema)

    def input_findings(self, item: Any) -> tuple[Finding, ...]:
        """Return what is wrong with an item as this cell's input; empty when nothing is."""
        return self.takes.findings(item)

    def output_findings(self, value: Any) -> tuple[Finding, ...]:
        """Return what is wrong with a value as this cell's output; empty when nothing is."""
        return self.gives.findings(value)

    def action_findings(self, action: str, payload: Any, precondition: Mapping[str, Any] | None = None) -> tuple[Finding, ...]:
        """Return why an action may not be proposed so; empty when it may.

        With `precondition`, its fields must be exactly those that the clause declares: one too few would miss a
        drift, one too many would void a proposal for a change that does not matter.
        """
        clause = self.proposes.get(action)
        if clause is None:
            allowed = ", ".join(self.proposes) or "nothing"
            return (
                Finding(
                    code="contract.action",
                    message=f"may propose {allowed}; got {printable(action)}",
                    place="/action/name",
                ),
            )
        found = [finding.model_copy(update={"place": "/action/payload" + finding.place}) for finding in clause.payload.findings(payload)]
        if precondition is not None and precondition.keys() != set(clause.depends_on):
            needed, seen = ", ".join(sorted(clause.depends_on)), printable(", ".join(sorted(precondition)))
            message = f"expected exactly the fields {printable(needed)}; got {seen or 'none'}"
            found.append(Finding(code="contract.precondition", message=message, place="/action/precondition"))
        return tuple(found)

    def rules_hold(self, values: Mapping[str, Any]) -> bool:
        """Return True when every rule of the gate holds, in a third of the time of asking one by one.

        False says only that some rule does not hold or has no answer: `Check.holds` tells which.
        """
        try:
            return self._all_rules.is_true(values)
        except ExpressionFailed:
            return False

    @cached_property
    def _all_rules(self) -> Expression:
        return Expression.all_of([check.expression for check in self.qa if check.expression is not None])

    def tier(self, action: str) -> Tier:
        """Return how many approvals an action needs. Raises KeyError for one that may not be proposed."""
        return self.proposes[action].tier

    def policy_sha256(self, action: str) -> str:
        """Return the digest of the clauses that govern an action: its own, the gate's, evidence and uncertainty.

        Raises KeyError for an action that may not be proposed.
        """
        return self._policies[action]

    @cached_property
    def _policies(self) -> dict[str, str]:
        document = self.document
        shared = {clause: document.get(clause) for clause in ("qa", "evidence", "uncertainty")}
        return {action: digest({"action": action, "proposes": clause} | shared) for action, clause in document.get("proposes", {}).items()}

    @property
    def document(self) -> dict[str, Any]:
        """The contract as it was written, a fresh copy."""
        return load_json(self.body, self.key)  # type: ignore[no-any-return]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Contract) and self.body == other.body

    def __hash__(self) -> int:
        return hash(self.body)


def read_contract(text: str | bytes, name: str) -> Contract:
    """Return the contract of a `contract.yaml`. Raises BadContract with file, line and remedy."""
    return _contract(read_yaml(text, name))


def parse_contract(body: bytes) -> Contract:
    """Return the contract of stored bytes. Raises BadContract when they are not the canonical form of one."""
    contract = _contract(Document("stored contract", load_json(bytes(body), "stored contract")))
    if contract.body != body:
        raise BadContract(f"stored contract {contract.key}: its bytes are not canonical, so its hash names something else")
    return contract


def _contract(document: Document) -> Contract:
    check_document(document, "contract", BadContract)
    value = document.value
    for part in ("takes", "gives"):
        purpose: Literal["input", "output"] = "input" if part == "takes" else "output"
        _check_schema(document, f"/{part}/schema", value[part]["schema"], purpose)
    tools, limits, evidence = value.get("tools", {}), value.get("limits", {}), value.get("evidence", {})
    both = sorted(set(tools.get("allow", ())) & set(tools.get("deny", ())))
    if both:
        raise BadContract(f"{document.place('/tools')}: {printable(', '.join(both))} is both allowed and denied: keep one")
    body = canonical(value)
    qa = _checks(document)
    if evidence.get("required") and not any(check.kind == "evidence" for check in qa):
        raise BadContract(f"{document.place('/qa')}: evidence is required, and no check looks at it: add - check: evidence")
    return Contract(
        body=body,
        sha256=sha256_hex(body),
        name=value["contract"],
        version=Version(*map(int, value["version"].split("."))),
        summary=value["summary"],
        takes_name=value["takes"]["name"],
        takes_schema=value["takes"]["schema"],
        gives_name=value["gives"]["name"],
        gives_schema=value["gives"]["schema"],
        evidence_required=evidence.get("required", False),
        evidence_sources=tuple(evidence.get("sources", ("quote", "item"))),
        tools_allow=tuple(tools.get("allow", ())),
        tools_deny=tuple(tools.get("deny", ())),
        max_seconds=limits.get("seconds", DEFAULT_SECONDS),
        max_bytes=limits.get("bytes", DEFAULT_BYTES),
        ceilings=CEILINGS | {Cause(cause): count for cause, count in limits.get("attempts", {}).items()},
        uncertainty=Uncertainty(**value["uncertainty"]) if "uncertainty" in value else None,
        qa=qa,
        proposes=_clauses(document),
        waits=value.get("waits", False),
    )


def _check_schema(document: Document, at: str, schema: Any, purpose: Literal["input", "output"]) -> None:
    check_schema(schema, name=document.name, purpose=purpose, place=lambda pointer: document.place(at + pointer))


def _checks(document: Document) -> tuple[Check, ...]:
    checks: dict[str, Check] = {}
    for index, rule in enumerate(document.value["qa"]):
        at = f"/qa/{index}"
        kind = rule["check"]
        if kind == "rule":
            place = document.place(f"{at}/expr")
            expression = Expression(rule["expr"], variables=QA_VARIABLES, place=place)
            _check_fields(document, expression, place)
            check = Check(kind, rule["name"], rule["code"], rule["message"], rule.get("on_fail", "rework"), expression)
        else:
            check = Check(kind, kind, f"qa.{kind}", f"the {kind} check failed")
        if check.name in checks:
            raise BadContract(f"{document.place(at)}: a second check named {check.name!r}: verdicts name checks, give it another name")
        checks[check.name] = check
    return tuple(checks.values())


def _check_fields(document: Document, expression: Expression, place: str) -> None:
    for variable, part in (("item", "takes"), ("output", "gives")):
        known = _closed_fields(document.value[part]["schema"])
        unknown = sorted((expression.fields.get(variable) or frozenset()) - known) if known is not None else []
        if unknown:
            there_are = ", ".join(sorted(known or ()))
            raise BadContract(f"{place}: {variable}.{unknown[0]} is not a field of {document.value[part]['name']}: {there_are}")


def _clauses(document: Document) -> dict[str, ProposeClause]:
    known = _closed_fields(document.value["takes"]["schema"])
    clauses = {}
    for action, clause in document.value.get("proposes", {}).items():
        at = f"/proposes/{action}"
        for index, field in enumerate(clause["depends_on"]):
            if known is not None and field not in known and field.removesuffix("_sha256") not in known:
                raise BadContract(
                    f"{document.place(f'{at}/depends_on/{index}')}: {printable(field)!r} is not a field of "
                    f"{document.value['takes']['name']}: {', '.join(sorted(known))}"
                )
        if "payload" in clause:
            _check_schema(document, f"{at}/payload", clause["payload"], "output")
        clauses[action] = ProposeClause(action, tuple(clause["depends_on"]), clause["tier"], clause.get("payload", True))
    return clauses


def _closed_fields(schema: Any) -> frozenset[str] | None:
    """Return the fields that a value can have; None when the schema leaves that open."""
    if isinstance(schema, dict) and "properties" in schema and schema.get("additionalProperties") is False:
        return frozenset(schema["properties"])
    return None
