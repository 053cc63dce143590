"""Opening an intake: which flow, pod, shape and contract the rows of a source are held to."""

from collections.abc import Callable
from pathlib import Path
from uuid import UUID

from artifacts.blobs import BlobStore
from contracts.errors import BadInput, NotFound
from contracts.floor import Floor, Flow
from queues.database import Connection, transaction
from queues.doorbell import Doorbell
from workcells.registry import Registry
from workcells.shapes.catalogue import SHAPES

from pipeline.intake import Intake, Report
from pipeline.publish import floor_in_force
from pipeline.sources import Source
from pipeline.sources.rejects import RejectsFile
from pipeline.sources.validation import RowValidator


def open_intake(
    conn: Connection, store: BlobStore, workspace: UUID, flow_name: str, registry: Registry, *, submitter: str, doorbell: Doorbell | None = None,
    rejects: RejectsFile | None = None, max_rejects: int | None = None, progress: Callable[[Report, Source], None] | None = None,
) -> Intake:  # fmt: skip
    """Return an intake into a flow of the floor in force. Raises NotFound for a flow that the floor does not have."""
    published = floor_in_force(conn, workspace)
    flow = published.floor.flow(flow_name)
    with transaction(conn, workspace):
        row = conn.execute("SELECT id FROM pods WHERE workspace_id = %s AND name = %s", [workspace, flow.pod]).fetchone()
    if row is None:
        raise NotFound(f"flow {flow.name} works in pod {flow.pod!r}, which this workspace does not have", hint="shopfloor floor apply")
    return Intake(
        conn, store, workspace, published.id, published.floor, flow, row[0], SHAPES[flow.shape], _validator(flow, registry), submitter, doorbell,
        rejects, progress or (lambda report, source: None), max_rejects,
    )  # fmt: skip


def only_flow(floor: Floor, wanted: str | None) -> str:
    """Return the flow that is meant: the named one, or the only one. Raises BadInput when it has to be named."""
    if wanted:
        return wanted
    if len(floor.flows) == 1:
        return next(iter(floor.flows))
    raise BadInput(f"the floor has {len(floor.flows)} flows: {', '.join(sorted(floor.flows))}", hint="name one: --flow NAME")


def _validator(flow: Flow, registry: Registry) -> RowValidator:
    """Return what rows are held to: what the flow's cell takes. Cells of one flow take the same items."""
    schemas = {registry.by_name[cell].contract.takes_name: registry.by_name[cell].contract.takes_schema for cell in flow.cells if cell in registry.by_name}
    if len(schemas) != 1:
        raise BadInput(f"the cells of flow {flow.name} take {', '.join(sorted(schemas)) or 'nothing that is known here'}: expected one kind of item")
    return RowValidator(next(iter(schemas.values())))


def rejects_beside(path: str | None) -> RejectsFile | None:
    """Return the rejects file to write, None when none was asked for."""
    return RejectsFile(str(Path(path))) if path else None
