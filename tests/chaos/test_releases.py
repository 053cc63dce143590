"""Two versions of a cell on one line: each item is done by the code of the version that it was routed to, or waits for it."""

import json
import signal
from collections import Counter
from pathlib import Path

from console.benchmarks.reference import write_file
from tests.chaos.account import violations
from tests.chaos.cells import contract_of, put_in_force, serving
from tests.chaos.plant import FLOOR, Plant
from workcells.registry import Registry

LANES = "route,cell.teller,artifact,qa,rework,archive"
FLOW = """
  teller:
    pod: bench
    takes: {shape: json, subject: id, revision: revision}
    route:
      - {name: all, cell: teller}
"""
CODE = '''"""Gives an item's number, as its version does."""

from workcells.api import Draft, cell


@cell
def work(item, bench):
    """Tell the number."""
    return Draft(value={"item": item["id"] * FACTOR})
'''
V1, V2 = (contract_of("teller", "Tells numbers.", "id: {type: integer}").replace("1.0.0", f"{major}.0.0") for major in (1, 2))
_SAID = """
SELECT i.contract_version, (convert_from(b.bytes, 'UTF8')::json ->> 'item')::int = o.subject_key::int * k.factor
  FROM inspect.items i JOIN shopfloor.artifacts a ON a.item_id = i.id::uuid JOIN shopfloor.orders o ON o.id = i.order_id::uuid
  JOIN shopfloor.bodies b ON b.item_id = a.item_id AND b.sha256 = a.sha256
  JOIN (VALUES ('1.0.0', 1), ('2.0.0', -1)) k (version, factor) ON k.version = i.contract_version
"""


def _release(plant: Plant, folder: Path, contract: str, factor: int) -> Registry:
    return put_in_force(plant, folder, "teller", CODE.replace("FACTOR", str(factor)), contract, FLOOR + FLOW)


def _take_in(plant: Plant, folder: Path, registry: Registry, first: int, count: int) -> None:
    rows = folder / f"{first}.jsonl"
    rows.write_text("".join(f'{{"id": {k}, "revision": 1}}\n' for k in range(first, first + count)))
    plant.take_in(rows, "teller", registry=registry)


def test_a_version_is_published_while_another_is_in_flight(plant: Plant, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    registry = _release(plant, old, V1, 1)
    plant.hire("sweeper", "sweeper")
    plant.hire("old", argv=serving(old, LANES))
    assert plant.run("pause", "cell:teller", "--why", "a release").returncode == 0
    _take_in(plant, tmp_path, registry, 1, 40)
    plant.until(lambda: plant.states() == {"workcell/ready": 40}, seconds=20, what="routed by the old release")

    registry = _release(plant, new, V2, -1)
    plant.posts["old"].signal(signal.SIGSTOP)
    plant.hire("new", argv=serving(new, LANES))
    _take_in(plant, tmp_path, registry, 101, 40)
    plant.until(lambda: plant.states() == {"workcell/ready": 80}, seconds=20, what="routed by the new release")
    plant.posts["old"].signal(signal.SIGCONT)
    assert plant.run("resume", "cell:teller").returncode == 0
    plant.settle(80)

    assert plant.states() == {"archive/done": 80}
    assert Counter(plant.rows(_SAID)) == {("1.0.0", True): 40, ("2.0.0", True): 40}
    # Nobody tried what he could not do.
    assert (
        plant.count("SELECT count(*) FROM moves m JOIN legal_moves l ON l.number = m.legal WHERE l.move IN ('retry', 'bury', 'expire')")
        == 0
    )
    assert violations(plant.admin) == []


def test_what_the_old_release_left_waits_for_its_code_and_says_so(plant: Plant, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    registry = _release(plant, old, V1, 1)
    plant.hire("sweeper", "sweeper")
    plant.hire("old", argv=serving(old, LANES))
    assert plant.run("pause", "cell:teller", "--why", "a release").returncode == 0
    _take_in(plant, tmp_path, registry, 1, 30)
    plant.until(lambda: plant.states() == {"workcell/ready": 30}, seconds=20, what="routed by the old release")
    leaver = plant.posts["old"]
    leaver.keep = False
    leaver.signal(signal.SIGTERM)
    plant.until(leaver.has_ended, seconds=20, what="the old release gone", tend=False)

    registry = _release(plant, new, V2, -1)
    plant.hire("new", argv=serving(new, LANES))
    assert plant.run("resume", "cell:teller").returncode == 0
    _take_in(plant, tmp_path, registry, 101, 30)
    plant.until(lambda: plant.states() == {"workcell/ready": 30, "archive/done": 30}, seconds=20, what="the new release's own work done")
    told = json.loads(plant.run("why", "7", "--json").stdout)
    assert told["reason"] == "slot"
    assert told["words"] == "pinned to contract teller@1.0.0, for which no live worker of lane cell.teller has the code"
    listed = json.loads(plant.run("contract", "list", "--json").stdout)["contracts"]
    assert {row["version"]: row["in_progress"] for row in listed if row["name"] == "teller"} == {"1.0.0": 30, "2.0.0": 0}
    board = json.loads(plant.run("status", "--json").stdout)
    [lane] = [lane for lane in board["lanes"] if lane["lane"] == "cell.teller"]
    assert (lane["ready"], lane["stalled"]) == (30, "30 items are pinned to a contract version that no live worker has the code for")

    plant.hire("old again", argv=serving(old, LANES))
    plant.settle(60)
    assert plant.states() == {"archive/done": 60}
    assert Counter(plant.rows(_SAID)) == {("1.0.0", True): 30, ("2.0.0", True): 30}
    assert plant.count("SELECT count(*) FROM moves m JOIN legal_moves l ON l.number = m.legal WHERE l.move IN ('retry', 'bury')") == 0
    assert violations(plant.admin) == []


def test_code_that_is_not_what_was_published_is_not_run(plant: Plant, tmp_path: Path) -> None:
    with plant.admin.transaction():  # as if the file had been edited after its version was published
        plant.admin.execute("SET LOCAL session_replication_role = replica")
        plant.admin.execute("UPDATE cells SET source_sha256 = sha256('other')")
    worker = plant.hire("propose", "worker", "--lanes", "propose")
    plant.take_in(write_file(tmp_path / "rows.jsonl", 1, 3), "reference")
    plant.until(lambda: plant.states() == {"workcell/ready": 3}, seconds=30, what="waiting for the published code")
    told = worker.log.read_text()
    assert "cell.other_code" in told
    assert "raise `version` in" in told
    assert "no live worker of lane cell.reference has the code" in plant.run("why", "1").stdout
