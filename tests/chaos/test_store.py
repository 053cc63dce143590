"""An artifact store that is full, read-only or away: what needs it waits, what does not goes on, nothing is buried."""

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from artifacts.blobs import ROW_BYTES
from contracts.attempts import CEILINGS, Cause
from contracts.errors import StoreUnavailable
from pipeline.startup.compose import Shop
from queues.database import Connection
from tests.chaos.account import violations
from tests.chaos.cells import contract_of, put_in_force, serving
from tests.chaos.plant import FLOOR, Plant
from tests.in_process import Clock, Road, issue

CODE = '''"""Gives more than a row of the database holds, when asked to."""

from workcells.api import Draft, cell


@cell
def work(item, bench):
    """Give as much text as the row says."""
    return Draft(value={"item": item["id"], "text": "x" * item["size"]})
'''
CONTRACT = (
    contract_of("bulky", "Gives much text.", "id: {type: integer}, size: {type: integer}, body: {type: string}")
    .replace("{item: {type: integer}}", "{item: {type: integer}, text: {type: string}}")
    .replace("bytes: 65536", "bytes: 1048576")
)
FLOW = """
  bulky:
    pod: bench
    takes: {shape: json, subject: id, revision: revision}
    route:
      - {name: all, cell: bulky}
"""


def _rows(folder: Path) -> Path:
    """Write twenty rows, of which every fifth asks for an artifact that goes to disk."""
    path = folder / "rows.jsonl"
    rows = [{"id": k, "revision": 1, "body": "b", "size": 2 * ROW_BYTES if k % 5 == 0 else 10} for k in range(1, 21)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


class Store:
    """The store of the suite's services, whose folder a test makes unusable, for root too: a file stands in its place."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._away = folder, folder.with_suffix(".away")

    def fail(self) -> None:
        if self.folder.exists():
            self.folder.rename(self._away)
        self.folder.write_text("")

    def mend(self) -> None:
        if self.folder.is_file():
            self.folder.unlink()
        if self._away.exists():
            self._away.rename(self.folder)


@pytest.fixture
def store(shop: Shop) -> Iterator[Store]:
    found = Store(shop.store.folder)
    yield found
    found.mend()


def test_a_store_that_takes_nothing_holds_up_only_what_needs_it(plant: Plant, tmp_path: Path, store: Store) -> None:
    registry = put_in_force(plant, tmp_path / "cells", "bulky", CODE, CONTRACT, FLOOR + FLOW)
    store.fail()
    plant.hire("propose", argv=serving(tmp_path / "cells", "route,cell.bulky,artifact,qa,rework,archive"))
    plant.hire("sweeper", "sweeper")
    plant.take_in(_rows(tmp_path), "bulky", registry=registry)
    waits = "SELECT count(*) FROM queue WHERE state = 'ready' AND throttles > 0 AND transients = 0"
    plant.until(lambda: plant.states().get("archive/done") == 16 and plant.count(waits) == 4, seconds=30, what="the small ones done")
    told = json.loads(plant.run("why", "5", "--json").stdout)
    assert told["reason"] == "backoff"
    assert "the artifact store at" in told["words"]
    assert plant.posts["propose"].deaths == []

    store.mend()
    plant.settle(20, seconds=60)
    assert plant.states() == {"archive/done": 20}
    assert violations(plant.admin) == []
    done = plant.run("artifact", "verify", "--json")
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_intake_into_a_store_that_takes_nothing_stops_and_resumes(plant: Plant, tmp_path: Path, store: Store) -> None:
    path = tmp_path / "large.jsonl"
    path.write_text("".join(json.dumps(issue(k, body="b" * 2 * ROW_BYTES)) + "\n" for k in range(1, 6)))
    store.fail()
    stopped = plant.intake(path, "issue-sweep")
    assert stopped.returncode == 6, stopped.stderr
    assert "the artifact store at" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    store.mend()
    again = plant.intake(path, "issue-sweep")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["accepted"] == 5
    plant.staff()
    plant.settle(5)
    assert violations(plant.admin) == []


def test_a_full_disk_leaves_nothing_half_written(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreUnavailable, match="refused 100000 bytes: No space left on device"):
        shop.store.put(b"x" * 100_000)
    assert list(shop.store.folder.rglob(".*")) == []


def test_a_payload_that_the_store_does_not_give_is_waited_for(strict_road: Road, store: Store, clock: Clock, admin: Connection) -> None:
    strict_road.take_in([issue(1, body="b" * 2 * ROW_BYTES), issue(2)])
    store.fail()
    for _ in range(CEILINGS[Cause.TRANSIENT] + 1):
        strict_road.run()
        clock.advance(seconds=600)
    assert strict_road.states() == {"archive/done": 1, "route/ready": 1}
    store.mend()
    strict_road.run()
    assert strict_road.states() == {"archive/done": 2}
    assert violations(admin) == []
