"""`shopfloor benchmark road`: N items of the reference work from intake to archive, then an idle line and single items."""

import statistics as st
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from console.benchmarks.bench import Bench, bench, statistics
from console.benchmarks.reference import write_file
from contracts.lifecycle import Role
from pipeline.intake.arrivals import Arrival  # noqa: F401 - imported early, so that the first single item does not pay for it
from pipeline.intake.intake import take_in
from pipeline.intake.sources import open_source

_DRAIN_SECONDS = 900.0
_WARM_ITEMS = 400


def road(*, items: int, workers: int, mode: str, batch: int, workspaces: int, singles: int, idle_seconds: float) -> dict[str, Any]:
    """Return the figures of one run; see docs/performance.md for what each means."""
    with bench(workers=workers, mode=mode, batch=batch, workspaces=workspaces) as found, tempfile.TemporaryDirectory() as folder:
        files = _files(Path(folder), items, workspaces)
        warm = write_file(Path(folder) / "warm.jsonl", 10_000_000, _WARM_ITEMS)
        found.take_file(warm, found.workspaces[0])
        found.wait_until_archived(_WARM_ITEMS, seconds=120)
        time.sleep(1.2)  # the server's counters lag by a second
        before, cpu = statistics(found), found.cpu_seconds()
        started = time.monotonic()
        # A thousand intakes one after the other would be what is measured: then the line waits until all of it is in.
        with found.line_paused() if workspaces > 1 else nullcontext():
            for path, workspace in zip(files, found.workspaces, strict=True):
                found.take_file(path, workspace)
        taken_in = time.monotonic() - started
        if workspaces > 1:
            started, cpu = time.monotonic(), found.cpu_seconds()
        found.wait_until_archived(items + _WARM_ITEMS, seconds=_DRAIN_SECONDS)
        seconds = time.monotonic() - started
        cpu = found.cpu_seconds() - cpu
        time.sleep(1.2)
        after = statistics(found)
        memory = found.largest_worker_mb()
        idle = _idle(found, idle_seconds)
        latencies = _singles(found, Path(folder), singles)
        total = items + _WARM_ITEMS
        return {
            "mode": mode,
            "items": items,
            "workers": workers,
            "apply_workers": 1,
            "batch": batch,
            "workspaces": workspaces,
            "seconds": round(seconds, 3),
            "items_per_s": round(items / seconds, 1),
            "intake_seconds": round(taken_in, 3),
            "idle_p50_ms": _percentile(latencies, 0.50),
            "idle_p99_ms": _percentile(latencies, 0.99),
            "idle_cpu_percent": idle,
            "rss_mb": memory,
            "cpu_ms_per_item": round(1000 * cpu / items, 3),
            "commits_per_item": round((after["commits"] - before["commits"]) / items, 3),
            "wal_kb_per_item": round((after["wal_bytes"] - before["wal_bytes"]) / items / 1024, 2),
            "hot_percent": round(100 * (after["hot"] - before["hot"]) / max(1, after["updates"] - before["updates"]), 1),
            "moves_per_item": round(found.count("SELECT count(*) FROM moves") / max(1, found.count("SELECT count(*) FROM items")), 2),
            "attempts_per_item": round(
                found.count("SELECT count(*) FROM inspect.attempts") / max(1, found.count("SELECT count(*) FROM items")), 2
            )
            if total <= 20_000
            else None,
            "postgresql": after["postgresql"],
        }


def _files(folder: Path, items: int, workspaces: int) -> list[Path]:
    share, rest = divmod(items, workspaces)
    files, start = [], 1
    for number in range(workspaces):
        count = share + (number < rest)
        files.append(write_file(folder / f"{number}.jsonl", start, count))
        start += count
    return files


def _idle(found: Bench, seconds: float) -> float | None:
    """Return the processor time of everything, workers and servers, in percent of one core while nothing is to do."""
    if not seconds:
        return None
    time.sleep(3)
    before = found.cpu_seconds()
    time.sleep(seconds)
    return round(100 * (found.cpu_seconds() - before) / seconds, 2)


def _singles(found: Bench, folder: Path, count: int) -> list[float]:
    """Send items one at a time through the idle line; return each one's milliseconds from intake to archive, by the database's clock."""
    workspace = found.workspaces[0]
    with found.shop.connect(Role.INTAKE, name="bench-intake") as conn:
        intake = found.intake(workspace, conn)
        for number in range(count):
            path = write_file(folder / "single.jsonl", 20_000_000 + number, 1)
            done = found.count("SELECT count(*) FROM archived_items")
            with open_source(str(path)) as source:
                take_in(intake, source)
            found.wait_until_archived(done + 1, seconds=60)
            time.sleep(0.02 + (number % 7) * 0.013)
    rows = found.conn.execute(
        """
        SELECT extract(epoch FROM a.archived_at - i.created_at) * 1000
          FROM items i
          JOIN archived_items a ON a.item_id = i.id
         ORDER BY i.id DESC
         LIMIT %s
        """,
        [count],
    ).fetchall()
    return [float(ms) for (ms,) in rows]


def _percentile(values: list[float], share: float) -> float | None:
    if not values:
        return None
    ordered = sorted(values)
    return round(st.median(ordered) if share == 0.5 else ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2)
