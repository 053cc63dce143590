"""Open an intake: which flow, pod, shape and contract the rows of a source are held to, and whether the source is whole."""

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from artifacts.blobs import BlobStore
from contracts.errors import BadInput, BadSource, NotFound
from contracts.floor import Floor, Flow
from pipeline.floors.publish import floor_in_force
from pipeline.intake.batch_book import Report
from pipeline.intake.intake import Intake, check, take_in
from pipeline.intake.reject_limit import RejectLimit
from pipeline.intake.sources import Source, open_source
from pipeline.intake.sources.validation import RowValidator
from queues.database import Connection, one_value, transaction
from workcells.registry import Registry
from workcells.shapes.catalogue import SHAPES

if TYPE_CHECKING:
    from queues.doorbell import Doorbell

STANDARD_INPUT = "-"


def open_intake(
    conn: Connection, store: BlobStore, workspace: UUID, flow_name: str, registry: Registry, *, submitter: str,
    doorbell: "Doorbell | None" = None, rejects: str | None = None, max_rejects: RejectLimit | None = None,
    progress: Callable[[Report, Source], None] | None = None,
) -> Intake:  # fmt: skip
    """Return an intake into a flow of the floor in force. Raises NotFound for a flow that the floor does not have."""
    published = floor_in_force(conn, workspace)
    flow = published.floor.flow(flow_name)
    with transaction(conn, workspace):
        pod: UUID | None = one_value(conn, "SELECT id FROM pods WHERE workspace_id = %s AND name = %s", [workspace, flow.pod])
    if pod is None:
        raise NotFound(f"flow {flow.name} works in pod {flow.pod!r}, which this workspace does not have", hint="shopfloor floor apply FILE")
    return Intake(
        conn, store, workspace, published.id, published.floor, flow, pod, SHAPES[flow.shape], _validator(flow, registry), submitter,
        doorbell, rejects, progress, max_rejects,
    )  # fmt: skip


class FromFile(NamedTuple):
    """Where rows come from, how they are read, and what is asked of the whole before any of it is taken in."""

    path: str
    """A file, or `-` for standard input."""
    kind: str | None = None
    """Format; None: by name and first bytes."""
    casts: Mapping[str, str] = {}
    as_of: datetime | None = None
    is_strict: bool = False
    """One row that would be rejected refuses the whole."""
    expect_rows: int | None = None

    def open(self) -> Source:
        """Open it for one pass."""
        return open_source(self.path, format=self.kind, casts=self.casts)


def preview_file(intake: Intake, wanted: FromFile) -> Report:
    """Read, validate and compare a file and write nothing but the rejects file."""
    _refuse_own_rejects(intake, wanted)
    with wanted.open() as source:
        return check(intake, source)


def take_file(intake: Intake, wanted: FromFile) -> Report:
    """Take in a file. What can be known beforehand refuses it whole: it is torn, too bad when strict, of another length.

    A file that can only end badly row by row is read once, every other twice. Standard input is read once.
    """
    proven = None if wanted.path == STANDARD_INPUT else _proven(intake, wanted)
    _refuse_own_rejects(intake, wanted)
    with wanted.open() as source:
        if proven is not None and source.identity != proven:
            raise BadSource(f"{source.name} changed after it was checked", hint="wait until its writer is done", code="source.changed")
        return take_in(intake, source, as_of=wanted.as_of)


def _proven(intake: Intake, wanted: FromFile) -> str | None:
    """Read a file to its end where that can refuse it; return its identity then, None when there was no need."""
    with wanted.open() as source:
        if wanted.is_strict:
            refuse_unfit(wanted, check(intake, source))
        elif wanted.expect_rows is not None or source.may_end_badly:
            refuse_unfit(wanted, Report(rows=source.count_rows()))
        else:
            return None
        return source.identity


def refuse_unfit(wanted: FromFile, found: Report) -> None:
    """Raise BadInput when a source is not what was asked for: another number of rows, or a bad row where none may be."""
    if wanted.expect_rows is not None and found.rows != wanted.expect_rows:
        raise BadInput(
            f"the source holds {found.rows} rows: expected {wanted.expect_rows}; nothing was taken in",
            hint="look for rows lost or doubled on the way, or correct --expect-rows",
            code="source.rows",
        )
    if wanted.is_strict and found.rejected:
        first = found.first_rejects[0]
        at = f", {first.field}" if first.field and not first.message.startswith(first.field) else ""
        raise BadInput(
            f"{found.rejected} of {found.rows} rows would be rejected; nothing was taken in. "
            f"First: line {first.line}, byte {first.byte_offset}{at}: {first.message} [{first.code}]",
            hint="list them all: shopfloor intake FILE --dry-run --rejects rejects.jsonl",
            code="source.strict",
        )


def _refuse_own_rejects(intake: Intake, wanted: FromFile) -> None:
    if not intake.rejects or wanted.path == STANDARD_INPUT:
        return
    with suppress(OSError, ValueError):
        if os.path.samefile(intake.rejects, wanted.path):
            raise BadInput("the rejects file is the very file that is taken in", hint="choose another path for --rejects")


def only_flow(floor: Floor, wanted: str | None) -> str:
    """Return the flow that is meant: the named one, or the only one. Raises BadInput when it has to be named."""
    if wanted is not None and not wanted.strip():
        raise BadInput("--flow is empty: expected the name of a flow, or no --flow at all", code="input.empty")
    if wanted:
        return wanted
    if len(floor.flows) == 1:
        return next(iter(floor.flows))
    raise BadInput(f"the floor has {len(floor.flows)} flows: {', '.join(sorted(floor.flows))}", hint="name one: --flow NAME")


def _validator(flow: Flow, registry: Registry) -> RowValidator:
    """Return what rows are held to: what the flow's cell takes. Cells of one flow take the same items."""
    contracts = [registry.by_name[cell].contract for cell in flow.cells if cell in registry.by_name]
    schemas = {contract.takes_name: contract.takes_schema for contract in contracts}
    if len(schemas) != 1:
        names = ", ".join(sorted(schemas)) or "nothing that is known here"
        raise BadInput(f"the cells of flow {flow.name} take {names}: expected one kind of item")
    return RowValidator(next(iter(schemas.values())))
