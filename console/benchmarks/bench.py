"""A factory of its own to measure on: database, workspaces, crew. Made, used, dropped."""

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
from psycopg import sql
from psycopg.rows import dict_row
from console.benchmarks.reference import FLOOR
from contracts.errors import Unavailable
from contracts.floor import parse_floor
from contracts.lifecycle import Role, Stage
from pipeline.access.tokens import ensure_actor
from pipeline.crew.crew import Crew
from pipeline.crew.member import members
from pipeline.crew.separation import Separation
from pipeline.floors.publish import floor_in_force, publish_cell, publish_floor
from pipeline.intake.intake import Intake, Report, take_in
from pipeline.intake.sources import open_source
from pipeline.intake.sources.validation import RowValidator
from pipeline.startup.compose import Shop, open_shop
from pipeline.startup.settings import load
from pipeline.startup.setup import SERVICE, ensure_workspace, load_registry, prepare_database
from queues.database import Connection, connect, one_value
from workcells.shapes.catalogue import SHAPES


@dataclass
class Bench:
    """A running factory under measurement."""

    shop: Shop
    conn: Connection
    """As the superuser of the embedded server: statistics and counts across workspaces."""
    workspaces: list[UUID]
    crew: Crew | None = None

    def intake(self, workspace: UUID, conn: Connection) -> Intake:
        """Return an intake into the reference flow of a workspace, on a connection as the role intake."""
        published = floor_in_force(conn, workspace)
        flow = published.floor.flow("reference")
        with conn.transaction():
            conn.execute("SELECT set_config('shopfloor.workspace', %s, true)", [str(workspace)])
            pod = one_value(conn, "SELECT id FROM pods WHERE workspace_id = %s AND name = %s", [workspace, flow.pod])
        contract = load_registry().by_name["reference"].contract
        return Intake(
            conn, self.shop.store, workspace, published.id, published.floor, flow, pod, SHAPES[flow.shape], RowValidator(contract.takes_schema),
            SERVICE, self.shop.doorbell(),
        )  # fmt: skip

    def take_file(self, path: Path, workspace: UUID) -> Report:
        """Take in a file of reference rows and return its account."""
        with self.shop.connect(Role.INTAKE, name="bench-intake") as conn, open_source(str(path)) as source:
            return take_in(self.intake(workspace, conn), source)

    @contextlib.contextmanager
    def line_paused(self) -> Iterator[None]:
        """Hold everything where it is meanwhile."""
        self.conn.execute("INSERT INTO pauses (id, kind, scope, why, actor) VALUES (gen_random_uuid(), 'all', 'all', 'measuring', 'bench')")
        try:
            yield
        finally:
            self.conn.execute("UPDATE pauses SET lifted_at = clock(), lifted_by = 'bench' WHERE lifted_at IS NULL")
            self.shop.doorbell().ring([Stage.ROUTE.value])

    def count(self, query: str, *values: object) -> int:
        """Return one number."""
        return int(one_value(self.conn, query, values) or 0)

    def wait_until_archived(self, items: int, *, seconds: float) -> None:
        """Return when that many items have been archived; raises Unavailable at the deadline."""
        deadline = time.monotonic() + seconds
        # The archive is counted only once the queue is empty: counted all the time, it would be part of what is measured.
        while self.count("SELECT count(*) FROM (SELECT FROM queue LIMIT 1) q") or self._archived() < items:
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"only {self._archived()} of {items} items were archived within {seconds:.0f} s; see {self.shop.data_dir / 'log' / 'bench'}"
                )
            time.sleep(0.05)

    def _archived(self) -> int:
        return self.count("SELECT count(*) FROM archived_items")

    def cpu_seconds(self) -> float:
        """Return the processor time of the crew and of the embedded servers so far."""
        total = 0.0
        for process in self._processes():
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                total += times.user + times.system
        return total

    def largest_worker_mb(self) -> float:
        """Return the resident memory of the largest crew process, in MB."""
        sizes = []
        for pid in self.crew.pids() if self.crew else []:
            with contextlib.suppress(psutil.Error):
                sizes.append(psutil.Process(pid).memory_info().rss / 1e6)
        return round(max(sizes, default=0.0), 1)

    def _processes(self) -> list[psutil.Process]:
        """Return the crew and the embedded servers with their backends: the servers name their data folder when called."""
        mine = {psutil.Process(pid) for pid in (self.crew.pids() if self.crew else [])}
        folder = str(self.shop.data_dir)
        for process in psutil.process_iter(["cmdline", "name"]):
            if process.info["name"] in ("postgres", "valkey-server", "redis-server") and folder in " ".join(process.info["cmdline"] or []):
                with contextlib.suppress(psutil.Error):
                    mine |= {process, *process.children()}
        return list(mine)


@contextlib.contextmanager
def bench(*, workers: int, mode: str, batch: int, workspaces: int = 1, crew: bool = True) -> Iterator[Bench]:
    """Open a factory on a database of its own, with its crew; both are gone afterwards."""
    name = f"bench_{os.getpid()}"
    settings = load(database=name, mode=mode, batch=batch, workers=workers)
    shop = open_shop(settings)
    if shop.services is None:
        raise Unavailable("benchmarks run on the embedded services", hint="unset SHOPFLOOR_DATABASE_URL and SHOPFLOOR_BROKER_URL")
    prepare_database(shop)
    conn = connect(shop.services.superuser_url(name), name="bench")
    team = None
    try:
        found = Bench(shop, conn, _workspaces(shop, workspaces))
        environment = {"SHOPFLOOR_DATABASE": name, "SHOPFLOOR_MODE": mode, "SHOPFLOOR_BATCH": str(batch)}
        if crew:
            team = found.crew = Crew(
                members(workers), log_dir=shop.data_dir / "log" / "bench", separation=Separation(settings), environment=environment
            )
            team.start()
            _wait_for_workers(found, workers + 1)
        yield found
    finally:
        if team:
            team.stop()
        conn.close()
        with connect(shop.services.superuser_url("postgres"), name="bench") as admin:
            admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def _workspaces(shop: Shop, count: int) -> list[UUID]:
    registry = load_registry()
    floor = parse_floor(FLOOR, "reference floor")
    found = []
    with shop.connect(Role.OPERATE, name="bench") as conn:
        publish_cell(conn, registry.by_name["reference"], by="bench")
        for number in range(count):
            workspace = ensure_workspace(conn, "main" if not number else f"bench-{number}")
            publish_floor(conn, workspace, floor, registry, by="bench")
            ensure_actor(conn, workspace, SERVICE, kind="service", roles=("submitter",))
            found.append(workspace)
    return found


def _wait_for_workers(found: Bench, count: int) -> None:
    deadline = time.monotonic() + 30
    while found.count("SELECT count(*) FROM workers WHERE stopped_at IS NULL") < count:
        if time.monotonic() > deadline:
            raise Unavailable(f"the crew did not start within 30 s; see {found.shop.data_dir / 'log' / 'bench'}")
        time.sleep(0.02)


def statistics(found: Bench) -> dict[str, Any]:
    """Return the database's own counters: commits, WAL bytes, HOT share of the queue's updates."""
    found.conn.execute("SELECT pg_stat_clear_snapshot()")
    with found.conn.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(
            """
            SELECT (SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()) AS commits,
                   (SELECT wal_bytes::bigint FROM pg_stat_wal) AS wal_bytes,
                   (SELECT coalesce(n_tup_upd, 0) FROM pg_stat_user_tables WHERE relname = 'queue') AS updates,
                   (SELECT coalesce(n_tup_hot_upd, 0) FROM pg_stat_user_tables WHERE relname = 'queue') AS hot,
                   current_setting('server_version') AS postgresql
            """
        ).fetchone()
    assert row is not None
    return dict(row)
