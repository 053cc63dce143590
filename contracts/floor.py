"""The floor: pods, flows and lanes of a factory, read from `floor.yaml`."""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal, NamedTuple

from contracts.canonical import canonical, sha256_hex
from contracts.documents import Document, read_json_or_yaml
from contracts.errors import BadFloor, NotFound
from contracts.excerpts import pointer_part, printable
from contracts.expressions import Expression
from contracts.lifecycle import CLAIMABLE_STAGES, Stage, lane_of
from contracts.schemas import check_document

DEFAULT_PRIORITY = 5
Autonomy = Literal["report_only", "draft_approve", "full_auto"]


class LaneLimits(NamedTuple):
    """Limits of one lane; None is no limit."""

    max_active: int | None = None
    per_minute: int | None = None


class RouteDecision(NamedTuple):
    """What a flow's rules say about one row: a cell, or the code of a refusal."""

    rule: str
    cell: str | None
    refuse: str | None
    priority: int


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of a route."""

    decision: RouteDecision
    when: Expression | None
    """None: matches everything."""


@dataclass(frozen=True, slots=True)
class Flow:
    """One flow of a floor."""

    name: str
    pod: str
    shape: str
    subject_field: str
    revision_field: str
    after_intake: bool
    """Items wait until their batch is complete, so that results do not depend on the order of rows."""
    context: Expression | None
    index: Mapping[str, str]
    """Field names of `title` and `body`; empty when the flow has no full-text index."""
    route: tuple[Rule, ...]
    applier: str
    """Where proposals go; empty: the flow only reports."""

    @property
    def cells(self) -> tuple[str, ...]:
        """Names of the cells that the route can lead to, in its order."""
        return tuple(dict.fromkeys(rule.decision.cell for rule in self.route if rule.decision.cell is not None))

    def is_context(self, row: Mapping[str, Any]) -> bool:
        """Return whether a row is only indexed, never worked on. Raises ExpressionFailed when there is no answer."""
        return self.context is not None and self.context.is_true({"row": row})

    def decide_route(self, row: Mapping[str, Any], as_of: str) -> RouteDecision:
        """Return the decision of the first rule that matches. Raises ExpressionFailed when one has no answer."""
        values = {"row": row, "as_of": as_of}
        for rule in self.route:
            if rule.when is None or rule.when.is_true(values):
                return rule.decision
        raise AssertionError("a route ends in a rule without `when`")


@dataclass(frozen=True, eq=False)
class Floor:
    """A checked floor. Two floors are equal when their canonical bytes are."""

    body: bytes
    """Canonical JSON of the file: what is stored, hashed and put in force."""
    sha256: str
    pods: Mapping[str, Autonomy]
    flows: Mapping[str, Flow]
    lanes: Mapping[str, LaneLimits]

    @property
    def cell_lanes(self) -> list[str]:
        """The lanes of all cells that a flow can lead to, sorted."""
        return sorted({lane_of(Stage.WORKCELL, cell=cell) for flow in self.flows.values() for cell in flow.cells})

    @property
    def apply_lanes(self) -> list[str]:
        """The lanes of all adapters that a flow's proposals go to, sorted."""
        return sorted({lane_of(Stage.APPLY, applier=flow.applier) for flow in self.flows.values() if flow.applier})

    def flow(self, name: str) -> Flow:
        """Return a flow. Raises NotFound with the names that there are."""
        try:
            return self.flows[name]
        except KeyError:
            raise NotFound(f"no flow {printable(name)!r} on this floor{_nearest(name, list(self.flows))}") from None

    def decide_route(self, flow: str, row: Mapping[str, Any], as_of: str) -> RouteDecision:
        """Return where a row of `flow` goes; see Flow.decide_route."""
        return self.flow(flow).decide_route(row, as_of)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Floor) and self.body == other.body

    def __hash__(self) -> int:
        return hash(self.body)


def parse_floor(text: str | bytes, name: str) -> Floor:
    """Return the floor of a `floor.yaml` or of stored canonical JSON. Raises BadFloor with file, line and remedy.

    Names that live elsewhere (shapes, cells, appliers) are not looked up here.
    """
    document = read_json_or_yaml(text, name, BadFloor)
    check_document(document, "floor", BadFloor)
    value = document.value
    flows = {flow: _flow(document, flow) for flow in value["flows"]}
    for lane in value.get("lanes", {}):
        _check_lane(document, lane, flows)
    body = canonical(value)
    return Floor(
        body=body,
        sha256=sha256_hex(body),
        pods={pod: clause["autonomy"] for pod, clause in value["pods"].items()},
        flows=flows,
        lanes={lane: LaneLimits(**limits) for lane, limits in value.get("lanes", {}).items()},
    )


def _flow(document: Document, name: str) -> Flow:
    at, value = f"/flows/{name}", document.value["flows"][name]
    pods = document.value["pods"]
    if value["pod"] not in pods:
        raise BadFloor(f"{document.place(f'{at}/pod')}: no pod {value['pod']!r}{_nearest(value['pod'], list(pods))}")
    takes = value["takes"]
    return Flow(
        name=name,
        pod=value["pod"],
        shape=takes["shape"],
        subject_field=takes["subject"],
        revision_field=takes["revision"],
        after_intake=value.get("after") == "intake",
        context=_expression(document, f"{at}/context", value.get("context"), ("row",)),
        index=value.get("index", {}),
        route=_route(document, f"{at}/route", value["route"]),
        applier=value.get("applier", ""),
    )


def _route(document: Document, at: str, rules: list[dict[str, Any]]) -> tuple[Rule, ...]:
    names: set[str] = set()
    for index, rule in enumerate(rules):
        place = document.place(f"{at}/{index}")
        if ("cell" in rule) == ("refuse" in rule):
            has = "both" if "cell" in rule else "neither"
            raise BadFloor(f"{place}: rule {rule['name']!r} has {has} of cell and refuse: write one")
        if "refuse" in rule and "priority" in rule:
            raise BadFloor(f"{place}: rule {rule['name']!r} refuses, so its priority orders nothing: remove it")
        if rule["name"] in names:
            raise BadFloor(f"{place}: a second rule named {rule['name']!r}: decisions name their rule, give it another name")
        names.add(rule["name"])
        is_last = index == len(rules) - 1
        if is_last and "when" in rule:
            raise BadFloor(f"{place}: the last rule has a `when`: add one without, as in {{name: rest, refuse: route.unsuitable}}")
        if not is_last and "when" not in rule:
            raise BadFloor(f"{place}: rule {rule['name']!r} has no `when`, so no rule after it is ever reached: move it to the end")
    return tuple(
        Rule(
            RouteDecision(rule["name"], rule.get("cell"), rule.get("refuse"), rule.get("priority", DEFAULT_PRIORITY)),
            _expression(document, f"{at}/{index}/when", rule.get("when"), ("row", "as_of")),
        )
        for index, rule in enumerate(rules)
    )


def _expression(document: Document, at: str, text: str | None, variables: tuple[str, ...]) -> Expression | None:
    if text is None:
        return None
    return Expression(text, variables=variables, place=document.place(at), error=BadFloor)


def _check_lane(document: Document, lane: str, flows: Mapping[str, Flow]) -> None:
    known = [lane_of(stage) for stage in CLAIMABLE_STAGES if stage not in (Stage.WORKCELL, Stage.APPLY)]
    for flow in flows.values():
        known += [lane_of(Stage.WORKCELL, cell=cell) for cell in flow.cells]
        known += [lane_of(Stage.APPLY, applier=flow.applier)] if flow.applier else []
    if lane not in known:
        place = document.place("/lanes" + pointer_part(lane))
        raise BadFloor(f"{place}: no flow uses a lane {printable(lane)!r}{_nearest(lane, known)}")


def _nearest(name: str, known: list[str]) -> str:
    close = get_close_matches(name, known, 1)
    return f": did you mean {close[0]!r}?" if close else f"; there are: {', '.join(dict.fromkeys(known))}"
