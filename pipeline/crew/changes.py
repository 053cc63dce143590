"""Changes that workers take up by being replaced: they load cells and the lanes of the floors once, when they start."""

import threading
from uuid import UUID

import psycopg
import structlog
from contracts.errors import ShopfloorError
from contracts.lifecycle import Role
from pipeline.crew.staffing import floors_in_force
from pipeline.startup.compose import Shop
from pipeline.worker.inline import lanes_of
from queues.database import Connection, first_line, transaction
from queues.floors import newest_floors

log = structlog.get_logger()

_POLL_SECONDS = 2.0

_WORKSPACES = "SELECT id FROM all_workspaces()"
_PUBLISHED_CELLS = "SELECT count(*) FROM cells"


class Loaded:
    """What a worker that starts now would load: lanes and published cells. Read from the database in a thread of its own.

    Cells count as changed when they are published, not when their files are: who edits a cell is not deployed by saving.
    """

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._conn: Connection | None = None
        self._floor_ids: frozenset[UUID] = frozenset()
        self._lanes: tuple[str, ...] = ()
        self.value: tuple[tuple[str, ...], int] | None = None
        """None until the database has answered."""

    def start(self, stop: threading.Event) -> None:
        """Read now, and then every two seconds until `stop`."""
        self._try_to_read()
        threading.Thread(target=self._read_for_ever, args=(stop,), name="changes", daemon=True).start()

    def _read_for_ever(self, stop: threading.Event) -> None:
        while not stop.wait(_POLL_SECONDS):
            self._try_to_read()

    def _try_to_read(self) -> None:
        try:
            self._conn = self._conn or self._shop.connect(Role.PROPOSE, name="crew")
            self.value = self._read(self._conn)
        except (psycopg.Error, ShopfloorError) as error:
            log.debug("crew.not_read", error=first_line(error))
            if self._conn is not None:
                self._conn.close()
            self._conn = None

    def _read(self, conn: Connection) -> tuple[tuple[str, ...], int]:
        workspaces = [workspace for (workspace,) in conn.execute(_WORKSPACES)]
        with transaction(conn, workspaces):
            floor_ids = frozenset(row.id for row in newest_floors(conn))
            cells = conn.execute(_PUBLISHED_CELLS).fetchone()
        if floor_ids != self._floor_ids:
            floors = floors_in_force(conn)
            self._lanes = tuple(sorted({lane for floor in floors for role in (Role.PROPOSE, Role.APPLY) for lane in lanes_of(floor, role)}))
            self._floor_ids = floor_ids
        return self._lanes, cells[0] if cells else 0
