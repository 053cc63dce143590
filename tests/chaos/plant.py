"""A factory of real processes for tests that kill, freeze and starve it."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import psycopg
from contracts.errors import Unavailable
from contracts.floor import parse_floor
from contracts.lifecycle import Role
from pipeline.access.tokens import ensure_actor, issue_token
from pipeline.floors.publish import publish_floor
from pipeline.intake.from_file import open_intake
from pipeline.intake.intake import Report, take_in
from pipeline.intake.sources import open_source
from pipeline.review.clearances import Answer, Ballot, decide_all
from pipeline.startup.compose import Shop
from pipeline.startup.setup import SERVICE, load_registry
from queues.database import Connection
from queues.database import connect as open_connection
from tests.in_process import issue, merged
from workcells.appliers.tracker_seed import seed
from workcells.registry import Registry
from workcells.shapes.catalogue import SHAPES

ROOT = Path(__file__).parents[2]
LEASE_SECONDS = 2
AS_OF = datetime(2025, 6, 1, tzinfo=UTC)
FLOOR = """
floor: 1
pods:
  maintainers: {autonomy: draft_approve}
  bench: {autonomy: full_auto}
flows:
  issue-sweep:
    pod: maintainers
    takes: {shape: github_issue, subject: key, revision: updated_at}
    after: intake
    context: "row.state == 'closed'"
    index: {title: title, body: body}
    route:
      - {name: open, when: "row.state == 'open'", cell: issue_review, priority: 5}
      - {name: rest, refuse: route.unsuitable}
    applier: tracker
  reference:
    pod: bench
    takes: {shape: json, subject: id, revision: revision}
    route:
      - {name: all, cell: reference}
    applier: sink
"""
PROPOSE = ("route", "cell.reference", "cell.issue_review", "artifact", "qa", "rework", "archive")


@dataclass
class Post:
    """One place in the plant. Each life of its process gets the next of `faults`, and none when they are used up."""

    name: str
    argv: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    faults: deque[str] = field(default_factory=deque)
    process: subprocess.Popen[bytes] | None = None
    deaths: list[int] = field(default_factory=list)
    keep: bool = True

    def start(self) -> None:
        armed = {"SHOPFLOOR_FAIL": self.faults.popleft()} if self.faults else {}
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                self.argv, env={**self.environment, **armed}, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=self.log.parent
            )

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def is_frozen(self) -> bool:
        return psutil.Process(self.pid).status() == psutil.STATUS_STOPPED

    def has_ended(self) -> bool:
        return self.process is None or self.process.poll() is not None


class Plant:
    """Posts over one database, looked after while the test waits for something to become true."""

    def __init__(self, shop: Shop, folder: Path, **settings: object) -> None:
        self.shop, self.folder = shop, folder
        self.posts: dict[str, Post] = {}
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("SHOPFLOOR_")} | {
            "SHOPFLOOR_DATA_DIR": str(shop.data_dir),
            "SHOPFLOOR_DATABASE": shop.database,
            "SHOPFLOOR_TRACKER_DIR": str(shop.tracker_dir),
            "SHOPFLOOR_LEASE_SECONDS": str(LEASE_SECONDS),
            "SHOPFLOOR_SWEEP_SECONDS": "0.2",
            "SHOPFLOOR_BATCH": "20",
            "PYTHONPATH": str(ROOT),
            # Compiled once for all processes of the run, and not into the tree.
            "PYTHONPYCACHEPREFIX": str(shop.data_dir / "pycache"),
        }
        self.environment.pop("PYTHONDONTWRITEBYTECODE", None)
        self.environment |= {f"SHOPFLOOR_{name.upper()}": str(value) for name, value in settings.items()}
        self._admin: Connection | None = None

    # ------------------------------------------------------------------ posts

    def hire(
        self, name: str, *arguments: str, faults: Iterable[str] = (), keep: bool = True, argv: Sequence[str] = (), **settings: object
    ) -> Post:
        """Start `shopfloor ARGUMENTS` (or `argv`); it is started again whenever it ends while the plant is tended, if `keep`."""
        environment = {**self.environment, **{f"SHOPFLOOR_{key.upper()}": str(value) for key, value in settings.items()}}
        command = list(argv) or [sys.executable, "-P", "-m", "console", *arguments]
        post = self.posts[name] = Post(name, command, environment, self.folder / f"{name}.log", deque(faults), keep=keep)
        post.start()
        return post

    def staff(self, *, propose: Iterable[Sequence[str]] = ((), ()), apply: Sequence[str] = (), sweepers: int = 1) -> None:
        """Hire propose workers, an apply worker and sweepers, each with the faults of its lives."""
        for number, faults in enumerate(propose, 1):
            self.hire(f"propose-{number}", "worker", "--lanes", "propose", faults=faults)
        self.hire("apply", "worker", "--lanes", "apply", faults=apply)
        for number in range(1, sweepers + 1):
            self.hire(f"sweeper-{number}", "sweeper")

    def run(self, *arguments: str, fault: str = "", timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run one command to its end."""
        armed = {"SHOPFLOOR_FAIL": fault} if fault else {}
        return subprocess.run(
            [sys.executable, "-P", "-m", "console", *arguments], env={**self.environment, **armed}, cwd=self.folder,
            capture_output=True, text=True, timeout=timeout, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def tend(self) -> None:
        """Start again what ended."""
        for post in self.posts.values():
            if post.process is not None and (code := post.process.poll()) is not None:
                post.deaths.append(code)
                post.process = None
                if post.keep:
                    post.start()

    def until(self, holds: Callable[[], bool], *, seconds: float, what: str, tend: bool = True) -> float:
        """Return how many seconds it took until `holds()`; fails, with logs, at the deadline."""
        started = time.monotonic()
        while True:
            if tend:
                self.tend()
            with contextlib.suppress(psycopg.OperationalError, Unavailable):
                if holds():
                    return round(time.monotonic() - started, 2)
            if time.monotonic() - started > seconds:
                raise AssertionError(f"not within {seconds} s: {what}\n{self.describe()}")
            time.sleep(0.03)

    def until_faults_are_used_up(self, *, seconds: float) -> float:
        """Wait until each post runs its last life, the one without a fault."""
        return self.until(
            lambda: not any(post.faults for post in self.posts.values()) and all(self.is_serving(post) for post in self.posts.values()),
            seconds=seconds, what=f"faults left: { {name: list(post.faults) for name, post in self.posts.items() if post.faults} }",
        )  # fmt: skip

    def is_serving(self, post: Post) -> bool:
        """True when the post's present process is registered as a live worker; sweepers do not register."""
        if "worker" not in post.argv:
            return not post.has_ended()
        return not post.has_ended() and self.count("SELECT count(*) FROM workers WHERE pid = %s AND stopped_at IS NULL", post.pid) > 0

    def dismiss(self) -> None:
        """Leave no process of the plant running."""
        for post in self.posts.values():
            if post.process is not None and post.process.poll() is None:
                post.signal(signal.SIGCONT)
                post.process.kill()
                post.process.wait()
        if self._admin is not None:
            self._admin.close()

    # ------------------------------------------------------------------ the database

    @property
    def admin(self) -> Connection:
        """The superuser's connection, opened again after the server went away."""
        if self._admin is None or self._admin.broken or self._admin.closed:
            assert self.shop.services is not None
            self._admin = open_connection(self.shop.services.superuser_url(self.shop.database), name="plant")
        return self._admin

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        try:
            return self.admin.execute(query, values).fetchall()
        except psycopg.OperationalError:
            if self._admin is not None:
                self._admin.close()
            raise

    def count(self, query: str, *values: object) -> int:
        return int(self.rows(query, *values)[0][0])

    def states(self) -> dict[str, int]:
        """Return how many items stand where."""
        return dict(
            self.rows(
                "SELECT stage || '/' || state, count(*) FROM (SELECT stage, state FROM queue UNION ALL SELECT stage, state FROM archived_items) s GROUP BY 1"
            )
        )

    def has_settled(self, items: int) -> bool:
        """True when that many items exist and each has ended or waits for a person."""
        return self.count("SELECT count(*) FROM items") == items and not self.count(
            "SELECT count(*) FROM queue WHERE NOT (state = 'dead' OR state = 'waiting' AND wait <> 'dependency')"
        )

    def settle(self, items: int, *, seconds: float = 60) -> float:
        """Wait until the line is quiet, and return the seconds that took."""
        return self.until(lambda: self.has_settled(items), seconds=seconds, what=f"{items} items at rest")

    def describe(self) -> str:
        """Return where items stand and how each post's log ends."""
        try:
            stands = json.dumps(self.states())
        except psycopg.Error as error:
            stands = str(error)
        logs = []
        for post in self.posts.values():
            lines = post.log.read_text(errors="replace").splitlines()[-12:] if post.log.exists() else []
            logs.append(f"--- {post.name} deaths={post.deaths}\n" + "\n".join(line[:300] for line in lines))
        return "\n".join([stands, *logs])

    # ------------------------------------------------------------------ work and people

    def publish(self) -> None:
        """Put the floor with both flows in force."""
        with self.shop.connect(Role.OPERATE) as conn:
            publish_floor(conn, self.shop.workspace_id(conn), parse_floor(FLOOR, "chaos floor"), load_registry(), by="chaos")

    def take_in(self, path: Path, flow: str, *, registry: Registry | None = None) -> Report:
        """Take a file in, in this process, ringing the doorbell as the command does."""
        with self.shop.connect(Role.INTAKE) as conn, open_source(str(path)) as source:
            job = open_intake(
                conn,
                self.shop.store,
                self.shop.workspace_id(conn),
                flow,
                registry or load_registry(),
                submitter=SERVICE,
                doorbell=self.shop.doorbell(),
            )
            return take_in(job, source, as_of=AS_OF)

    def intake(self, path: Path, flow: str, *, fault: str = "") -> subprocess.CompletedProcess[str]:
        """Take a file in by a process of its own."""
        return self.run("intake", str(path), "--flow", flow, "--as-of", AS_OF.isoformat(), "--json", fault=fault)

    def approve_all(self) -> int:
        """Approve every open proposal as a person, and return how many there were."""
        with self.shop.connect(Role.OPERATE) as conn:
            workspace = self.shop.workspace_id(conn)
            token = issue_token(
                conn, workspace, ensure_actor(conn, workspace, "ada", kind="person", roles=("reviewer",)), label="test", by="test"
            )
        ballots = [Ballot(*row) for row in self.rows("SELECT id, sha256 FROM proposals WHERE state = 'open' ORDER BY id")]
        with self.shop.connect(Role.REVIEW) as conn:
            decided = decide_all(conn, workspace, token, ballots, Answer.APPROVE, "seen", by="ada")
        assert not [one.error for one in decided if one.error]
        return len(ballots)


def issues_file(folder: Path, count: int) -> Path:
    """Write `count` open issues and, for each, the merged pull request that fixes it."""
    rows = [issue(number) for number in range(1, count + 1)] + [merged(10_000 + number, fixes=number) for number in range(1, count + 1)]
    path = folder / "issues.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def seed_tracker(folder: Path, count: int) -> None:
    """Make a tracker that holds those open issues."""
    seed(folder, [SHAPES["github_issue"].normalise(issue(number)) for number in range(1, count + 1)])


def applied_twice(folder: Path) -> list[str]:
    """Return the tracker's issues that hold an action, or its comment, other than exactly once."""
    wrong = []
    for path in sorted(folder.rglob("*.json")):
        document = json.loads(path.read_text())
        keys = [one["key"] for one in document["applied"]]
        if len(keys) != 1 or len(document["comments"]) > 1:
            wrong.append(f"{path.name}: {len(keys)} applied, {len(document['comments'])} comments")
    return wrong


def shuffled(seed_number: int, points: Iterable[str]) -> list[str]:
    """Return the points in the order that a seed gives them."""
    order = list(points)
    random.Random(seed_number).shuffle(order)
    return order
