"""Collecting: the sweeper's slow chore. It removes files of the store that no row has named for longer than their grace."""

import threading
from pathlib import Path

import psycopg
import structlog
from artifacts.blobs import BlobStore
from artifacts.orphans import GRACE_SECONDS, Blob, delete_blob, find_orphans, remove_half_written
from contracts.errors import ShopfloorError
from contracts.lifecycle import Role
from pipeline.startup.compose import Shop
from queues.database import Connection, first_line
from queues.embedded.endpoints import last_port
from queues.embedded.place import Place

log = structlog.get_logger()

EVERY_SECONDS = 900.0
LATEST_SECONDS = GRACE_SECONDS + 3 * EVERY_SECONDS
"""A file that nothing names is gone by this age where a sweeper runs."""
_FIRST_SECONDS = 30.0

_OTHERS = """
SELECT datname
  FROM pg_database
 WHERE datallowconn
   AND NOT datistemplate
   AND datname NOT IN ('postgres', current_database())
"""


class Collector:
    """Rounds over one store. A file goes in the second round that finds it unnamed, and unchanged since the first.

    The machine may have slept through the grace, and with it who was about to name the file: between two rounds it was awake.
    """

    def __init__(self, store: BlobStore) -> None:
        self._store = store
        self._suspects: frozenset[Blob] = frozenset()

    def round(self, conn: Connection, *, grace: float = GRACE_SECONDS) -> dict[str, int]:
        """Do one round and return how many blobs and half-written files were removed."""
        found = frozenset(find_orphans(conn, self._store, grace=grace))
        removed = {blob for blob in found & self._suspects if delete_blob(blob)}
        self._suspects = found - removed
        return {"blobs": len(removed), "half_written": remove_half_written(self._store, grace=grace)}


def keep_collecting(shop: Shop, stop: threading.Event) -> None:
    """Do a round every EVERY_SECONDS until told to stop. Not in the loop that brings back leases: a large store is slow."""
    collector, said, pause = Collector(shop.store), "", _FIRST_SECONDS
    while not stop.wait(pause):
        pause = EVERY_SECONDS
        try:
            with shop.connect(Role.SWEEP, name="sweeper-store") as conn:
                hindrance = shared_with(shop, conn)
                removed = {} if hindrance else collector.round(conn)
        except (psycopg.Error, ShopfloorError, OSError, ValueError) as error:
            hindrance, removed = first_line(error), {}
        if any(removed.values()):
            log.info("collect.did", **removed)
        if hindrance and hindrance != said:
            log.warning("collect.skipped", why=hindrance)
        said = hindrance


def shared_with(shop: Shop, conn: Connection) -> str:
    """Return why files of this store may be named by rows that `conn` cannot see; empty when they may not.

    Two factories may keep their blobs in one folder, a benchmark's database and the real one among them.
    """
    place = Place(shop.data_dir.resolve())
    if not place.postgres.exists():
        return "" if shop.settings.data_dir else "SHOPFLOOR_DATA_DIR is not set: set it to a folder that this factory alone uses"
    # By where the connection leads, not by the settings: the crew hands its sweeper an address of the embedded server.
    host = conn.info.host
    if not (Path(host).is_relative_to(place.root) or (host == "127.0.0.1" and conn.info.port == last_port(place, "postgres"))):
        return f"{shop.data_dir} belongs to the embedded database as well: give this factory a SHOPFLOOR_DATA_DIR of its own"
    others = [name for (name,) in conn.execute(_OTHERS)]
    return f"database {others[0]} keeps its blobs in the same folder" if others else ""
