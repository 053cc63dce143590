"""Checking a floor against what is installed: shapes and their fields, cells, appliers, and whether they fit together."""

from collections.abc import Iterator
from difflib import get_close_matches

from contracts.errors import BadFloor
from contracts.expressions import Expression
from contracts.floor import Floor, Flow
from contracts.language import Contract
from workcells.appliers import NAMES as APPLIERS
from workcells.appliers import applier_class
from workcells.registry import Registry
from workcells.shapes.catalogue import SHAPES


def check_floor(floor: Floor, registry: Registry) -> None:
    """Return when every shape, field, cell and applier that the floor names exists, and they fit together. Raises BadFloor."""
    for flow in floor.flows.values():
        if flow.shape not in SHAPES:
            raise BadFloor(f"flow {flow.name} takes shape {flow.shape!r}: expected one of {', '.join(sorted(SHAPES))}")
        _check_fields(flow)
        if flow.applier and flow.applier not in APPLIERS:
            raise BadFloor(f"flow {flow.name} names applier {flow.applier!r}: expected one of {', '.join(sorted(APPLIERS))}")
        for cell in flow.cells:
            if cell not in registry.by_name:
                raise BadFloor(f"flow {flow.name} routes to cell {cell!r}: expected one of {', '.join(sorted(registry.by_name))}")
            if flow.applier:
                _check_fit(flow, registry.by_name[cell].contract)


def _check_fields(flow: Flow) -> None:
    """Refuse a field that no row of the flow's shape has: the flow would reject every row, or its rule never match."""
    fields = SHAPES[flow.shape].fields
    if fields is None:
        return
    for place, field in _named_fields(flow):
        if field not in fields:
            close = get_close_matches(field, fields, 1)
            meant = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(sorted(fields))}"
            raise BadFloor(f"flow {flow.name}, {place}: shape {flow.shape} has no field {field!r} ({meant})")


def _named_fields(flow: Flow) -> Iterator[tuple[str, str]]:
    """Yield every field of a row that a flow names, with the place that names it."""
    yield "takes.subject", flow.subject_field
    yield "takes.revision", flow.revision_field
    for part, field in flow.index.items():
        yield f"index.{part}", field
    rules: list[tuple[str, Expression | None]] = [("context", flow.context)]
    rules += [(f"route rule {rule.decision.rule}", rule.when) for rule in flow.route]
    for place, expression in rules:
        for field in sorted((expression.fields.get("row") or ()) if expression else ()):
            yield place, field


def _check_fit(flow: Flow, contract: Contract) -> None:
    """Refuse a cell whose proposals the flow's applier could never compare or carry out: better here than at the first apply."""
    applier = applier_class(flow.applier)
    for clause in contract.proposes.values():
        at = f"flow {flow.name}: cell {contract.name} proposes {clause.action}"
        if applier.actions is not None and clause.action not in applier.actions:
            raise BadFloor(f"{at}, which applier {flow.applier} cannot do: it does {', '.join(sorted(applier.actions))}")
        unseen = sorted(set(clause.depends_on) - applier.fields) if applier.fields is not None else []
        if unseen:
            readable = ", ".join(sorted(applier.fields or ()))
            raise BadFloor(f"{at}, resting on {', '.join(unseen)}, which applier {flow.applier} cannot read: it reads {readable}")
