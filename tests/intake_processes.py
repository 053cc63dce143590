"""Intake, for tests: a floor that takes rows as they are, and what the database holds after a command."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from console.benchmarks.reference import FLOOR
from contracts.lifecycle import Role
from pipeline.startup.compose import Shop
from pipeline.startup.settings import Settings
from pipeline.startup.setup import set_up

TABLES = ("triggers", "batches", "batch_rows", "orders", "items", "queue", "moves", "bodies", "archived_items", "subjects", "mentions")


def environment(shop: Shop, **more: str) -> dict[str, str]:
    """Return the environment of a command that works in this shop, for tests that start it themselves."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SHOPFLOOR_", "PYTHONDONTWRITE"))}
    ours = {
        "SHOPFLOOR_DATA_DIR": str(shop.data_dir),
        "SHOPFLOOR_DATABASE": shop.database,
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "PYTHONPYCACHEPREFIX": str(Path(tempfile.gettempdir()) / "shopfloor-pycache"),
    }
    return kept | ours | more


def reference_floor(shop: Shop, folder: Path, text: str = FLOOR) -> None:
    """Put the floor of the reference work in force: the flow `reference` takes rows of `work_item` as they are."""
    path = folder / "reference-floor.yaml"
    path.write_text(text, encoding="utf-8")
    set_up(Shop(Settings(data_dir=shop.data_dir, database=shop.database, floor=path), shop.services))


def item(number: int | str, **fields: Any) -> dict[str, Any]:
    """Return a row of the reference work, with some fields changed."""
    title = f"Work item {number}"
    return {"id": number, "revision": 1, "title": title, "source": "test", "priority": 5, "body": "please refund the invoice"} | fields


def as_lines(rows: list[Any]) -> bytes:
    """Return rows as JSON lines; what is bytes already stays as it is."""
    return b"".join((row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n" for row in rows)


def written(admin: Any) -> dict[str, int]:
    """Return how many rows every table holds that an intake writes to."""
    return {table: admin.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES}


def batches(shop: Shop) -> list[tuple[Any, ...]]:
    """Return state, rows, accepted, rejected and duplicate of each batch, oldest first."""
    with shop.connect(Role.SWEEP) as conn:
        query = "SELECT state, rows_read, accepted, rejected, duplicate FROM batches ORDER BY created_at, id"
        return conn.execute(query).fetchall()
