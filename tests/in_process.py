"""What tests drive: the line in this process, the database's clock, and rows as GitHub shows them."""

import json
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
from psycopg import sql
from contracts.lifecycle import Role
from pipeline.floors.publish import floor_in_force
from pipeline.intake.from_file import open_intake
from pipeline.intake.intake import Report, take_in
from pipeline.intake.sources import open_source
from pipeline.startup.appliers import opened
from pipeline.startup.compose import Shop
from pipeline.startup.setup import SERVICE, load_registry
from pipeline.sweeper.process import sweep
from pipeline.worker.advance import Mode
from pipeline.worker.inline import InlineWorker, lanes_of
from queues.database import Connection
from queues.database import connect as open_connection
from queues.embedded import Services
from queues.schema import deny_temporary


def clone_database(services: Services, name: str, template: str) -> None:
    """Make a database like another one, with what a migration does to a database and what no template hands on."""
    with open_connection(services.superuser_url("postgres")) as admin:
        admin.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER shopfloor_owner").format(sql.Identifier(name), sql.Identifier(template))
        )
    with closing(open_connection(services.superuser_url(name))) as admin:
        deny_temporary(admin)


class Clock:
    """The database's clock, frozen by a test."""

    def __init__(self, admin: Connection) -> None:
        self._admin = admin

    def advance(self, seconds: float) -> None:
        """Move the database's now forward, for every session, by shifting what `clock()` answers."""
        self._admin.execute("CREATE TABLE IF NOT EXISTS shopfloor.test_clock (shift interval NOT NULL)")
        self._admin.execute("GRANT SELECT ON shopfloor.test_clock TO PUBLIC")
        with self._admin.transaction():
            row = self._admin.execute("SELECT sum(shift) FROM shopfloor.test_clock").fetchone()
            self._admin.execute("DELETE FROM shopfloor.test_clock")
            self._admin.execute(
                "INSERT INTO shopfloor.test_clock VALUES (coalesce(%s, interval '0') + make_interval(secs => %s))",
                [row[0] if row else None, seconds],
            )
            self._admin.execute(
                "CREATE OR REPLACE FUNCTION shopfloor.clock() RETURNS timestamptz LANGUAGE sql STABLE "
                "AS 'SELECT transaction_timestamp() + coalesce((SELECT max(shift) FROM shopfloor.test_clock), interval ''0'')'"
            )


class Road:
    """The line in this process, without a broker: by the same claims, steps and commits as the workers."""

    def __init__(self, shop: Shop, tmp_path: Path, mode: Mode) -> None:
        self.shop, self._folder, self.mode = shop, tmp_path, mode
        self.registry = load_registry()
        self._workers: dict[Role, InlineWorker] = {}

    def take_in(
        self, rows: list[dict[str, Any]], *, flow: str = "issue-sweep", submitter: str = SERVICE, as_of: datetime | None = None
    ) -> Report:
        """Take in rows as a file of their own."""
        path = self._folder / f"{uuid4().hex}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return self.take_file(path, flow=flow, submitter=submitter, as_of=as_of)

    def take_file(self, path: Path, *, flow: str = "issue-sweep", submitter: str = SERVICE, as_of: datetime | None = None) -> Report:
        """Take in a file."""
        with self.shop.connect(Role.INTAKE) as conn, open_source(str(path)) as source:
            job = open_intake(conn, self.shop.store, self.shop.workspace_id(conn), flow, self.registry, submitter=submitter)
            return take_in(job, source, as_of=as_of)

    def worker(self, role: Role = Role.PROPOSE) -> InlineWorker:
        """Return the inline worker of a role, made when first asked for."""
        if role not in self._workers:
            with self.shop.connect(Role.READ) as conn:
                floor = floor_in_force(conn, self.shop.workspace_id(conn)).floor
            names = sorted({flow.applier for flow in floor.flows.values() if flow.applier})
            appliers = opened(self.shop, names) if role is Role.APPLY else {}
            self._workers[role] = InlineWorker(self.shop, role, lanes_of(floor, role), self.registry, appliers, mode=self.mode)
        return self._workers[role]

    def run(self) -> None:
        """Serve every lane, apply included, and sweep, until nothing is due."""
        while self.worker(Role.PROPOSE).run() + self.worker(Role.APPLY).run():
            pass

    def sweep(self) -> dict[str, int]:
        """Do one round of the sweeper, without a broker."""
        with self.shop.connect(Role.SWEEP) as conn:
            return sweep(conn, None)

    def items(self, **where: Any) -> list[dict[str, Any]]:
        """Return rows of `inspect.items`, filtered by equal columns."""
        with self.shop.connect(Role.AUDIT) as conn:
            cursor = conn.cursor(row_factory=psycopg.rows.dict_row)
            rows: list[dict[str, Any]] = cursor.execute("SELECT * FROM inspect.items ORDER BY id").fetchall()
        return [row for row in rows if all(row[name] == value for name, value in where.items())]

    def states(self) -> dict[str, int]:
        """Return how many items stand where: `stage/state` → count."""
        counts: dict[str, int] = {}
        for row in self.items():
            counts[f"{row['stage']}/{row['state']}"] = counts.get(f"{row['stage']}/{row['state']}", 0) + 1
        return counts

    def close(self) -> None:
        """Retire the inline workers."""
        while self._workers:
            self._workers.popitem()[1].close()


@dataclass(frozen=True)
class Result:
    """What a command printed and how it ended."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """The last line of stdout as JSON."""
        return json.loads(self.stdout.strip().splitlines()[-1])


def issue(number: int, **fields: Any) -> dict[str, Any]:
    """Return an open issue as GitHub's REST API shows it, with some fields changed."""
    repo = "https://api.github.com/repos/acme/widgets"
    row = {
        "url": f"{repo}/issues/{number}", "repository_url": repo, "html_url": f"https://github.com/acme/widgets/issues/{number}", "number": number,
        "title": f"Widget {number} does not turn", "body": "It stands still.", "state": "open", "state_reason": None, "labels": [], "locked": False,
        "user": {"login": "ada"}, "author_association": "NONE", "comments": 0, "created_at": "2025-01-01T00:00:00Z",
        "updated_at": "2025-01-02T00:00:00Z", "closed_at": None,
    }  # fmt: skip
    return row | fields


def merged(number: int, *, fixes: int, **fields: Any) -> dict[str, Any]:
    """Return a merged pull request that says that it fixes an issue."""
    row = issue(
        number, title=f"Make widget {fixes} turn", body=f"Fixes #{fixes}", state="closed", created_at="2025-02-01T00:00:00Z",
        updated_at="2025-02-02T00:00:00Z", closed_at="2025-02-02T00:00:00Z",
        pull_request={"url": f"https://api.github.com/repos/acme/widgets/pulls/{number}", "merged_at": "2025-02-02T00:00:00Z"},
    )  # fmt: skip
    return row | {"html_url": f"https://github.com/acme/widgets/pull/{number}"} | fields
