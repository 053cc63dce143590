"""What people are told to type about services, workers, workspaces and floors, typed in a data folder where nothing runs yet."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from pipeline.floors.publish import BUILT_IN_FLOOR
from tests.in_process import Result, issue
from tests.intake_processes import as_lines, item
from tests.reader import Reader, filling, told, told_one
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
MORE = """
  more:
    pod: maintainers
    takes: {shape: json, subject: id, revision: revision}
    route:
      - {name: all, cell: reference}
"""


@pytest.fixture
def reader() -> Iterator[Reader]:
    made = Path(tempfile.mkdtemp(prefix="sf-", dir="/tmp"))  # short, and open to the servers' own user
    made.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SHOPFLOOR_")}
    ours = {
        "SHOPFLOOR_DATA_DIR": str(made / "data"), "SHOPFLOOR_WORKERS": "1", "PYTHONPATH": str(ROOT),
        "PYTHONPYCACHEPREFIX": str(Path(tempfile.gettempdir()) / "shopfloor-pycache"),
    }  # fmt: skip
    one = Reader(made / "desk", kept | ours)
    yield one
    one.types("./shopfloor down")
    shutil.rmtree(made)


def quiet(reader: Reader) -> bool:
    """Return whether the board has nothing more to say than that all is done."""
    seen = reader.types("./shopfloor status")
    return not told(seen) and ", 0 items in progress" not in seen.stdout


def settled(reader: Reader, line: str) -> Result:
    """Type a line that looks until what is wrong can be seen: a worker is missed after a while."""
    wait_until(lambda: reader.types(line).exit_code == 1, seconds=60, what=lambda: reader.types(line))
    return reader.types(line)


def test_from_nothing_to_work_that_is_done_by_what_is_printed_alone(reader: Reader) -> None:
    (reader.folder / "rows.jsonl").write_bytes(as_lines([issue(1), issue(2, state="closed")]))
    (reader.folder / "floor.yaml").write_text(BUILT_IN_FLOOR.read_text(encoding="utf-8"))
    nothing = reader.types("./shopfloor status")
    assert nothing.exit_code == 6
    assert told_one(reader.types("./shopfloor doctor"), "up") == "./shopfloor up"
    up = reader.does(told_one(nothing, "up"))
    empty = reader.does(told_one(up, "status"))
    taken = reader.does(filling(told_one(up, "intake"), FILE="rows.jsonl"))
    reader.does(told_one(taken, "batch show"))
    assert told(empty, "intake") in ([], ["./shopfloor intake FILE"])
    reader.does("./shopfloor batch wait latest")

    # Another workspace than there is.
    elsewhere = {"SHOPFLOOR_WORKSPACE": "elsewhere"}
    unknown = reader.types("./shopfloor status", **elsewhere)
    assert (unknown.exit_code, "no workspace named" in unknown.stderr) == (3, True)
    reader.does(told_one(unknown, "up"), **elsewhere)
    reader.does("./shopfloor status", **elsewhere)

    # A lane and a cell that are new to workers that run.
    (reader.folder / "my floor.yaml").write_text(BUILT_IN_FLOOR.read_text(encoding="utf-8").rstrip() + MORE)
    applied = reader.does("./shopfloor floor apply 'my floor.yaml'")
    assert "workers of `./shopfloor up` serve them within seconds" in applied.stdout
    (reader.folder / "items.jsonl").write_bytes(as_lines([item(1)]))
    reader.does("./shopfloor intake items.jsonl --flow more --wait")

    # A floor.yaml beside the caller that is not in force.
    ignored = reader.does("./shopfloor up")
    assert "differs from the floor in force" in ignored.stdout
    reader.does(told_one(ignored, "floor apply"))
    assert "differs" not in reader.does("./shopfloor up").stdout

    # No workers, and what that does to new work.
    reader.does("./shopfloor down --workers-only")
    (reader.folder / "newer.jsonl").write_bytes(as_lines([issue(3)]))
    waiting = reader.does("./shopfloor intake newer.jsonl")
    for seen in (reader.types("./shopfloor status"), reader.does("./shopfloor why acme/widgets#3"), reader.types("./shopfloor doctor")):
        assert told_one(seen, "up") == "./shopfloor up"
    late = reader.types("./shopfloor batch wait latest --timeout 0s")
    reader.does("./shopfloor up")
    reader.does(told_one(late, "batch wait"))
    assert "1 done" in reader.does(told_one(waiting, "batch show")).stdout

    # A crew that was killed.
    crew = next(one for one in psutil.process_iter(["cmdline", "environ"]) if is_crew(one, reader))
    for process in (*crew.children(), crew):
        process.kill()
    for seen in (settled(reader, "./shopfloor status --check"), settled(reader, "./shopfloor doctor")):
        assert told_one(seen, "up") == "./shopfloor up"
    reader.does("./shopfloor up")
    reader.does("./shopfloor status --check")
    reader.does(told_one(up, "down"))
    assert reader.types("./shopfloor status").exit_code == 6


def is_crew(process: psutil.Process, reader: Reader) -> bool:
    words, environment = process.info["cmdline"] or [], process.info["environ"] or {}
    return "--in-background" in words and environment.get("SHOPFLOOR_DATA_DIR") == str(reader.folder.parent / "data")
