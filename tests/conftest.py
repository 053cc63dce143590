"""A real PostgreSQL and Valkey for the whole run, and a database of its own, cloned from a template, for each test."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from psycopg import sql
from contracts.lifecycle import Role
from pipeline.startup.compose import Shop, open_shop
from pipeline.startup.settings import Settings
from pipeline.startup.setup import set_up
from pipeline.worker.advance import Mode
from queues.database import Connection
from queues.database import connect as open_connection
from queues.embedded import Services, stop
from tests.in_process import Clock, Result, Road, clone_database

ROOT = Path(__file__).parents[1]
TEMPLATE = "template_shop"


@pytest.fixture(scope="session")
def services_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data folder whose services live as long as the run, or the one that TEST_SERVICES names: mutation testing runs thousands of runs."""
    if kept := os.environ.get("TEST_SERVICES"):
        yield Path(kept)
        return
    folder = tmp_path_factory.mktemp("services")
    yield folder
    stop(folder)


@pytest.fixture(scope="session")
def services(services_dir: Path) -> Services:
    """Embedded services with a template database: migrated, with workspace, cells, floor and actors."""
    shop = open_shop(Settings(data_dir=services_dir, database=TEMPLATE))
    set_up(shop)
    assert shop.services is not None
    return shop.services


@pytest.fixture
def shop(services: Services, services_dir: Path, tmp_path: Path) -> Iterator[Shop]:
    """A factory of the test's own: database, tracker folder, nothing running."""
    name = f"shop_{uuid4().hex[:12]}"
    clone_database(services, name, TEMPLATE)
    yield Shop(Settings(data_dir=services_dir, database=name, tracker_dir=tmp_path / "tracker"), services)
    with open_connection(services.superuser_url("postgres")) as admin:
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def connect(shop: Shop) -> Iterator[Any]:
    """Connections by role, closed after the test: `connect(Role.READ)`."""
    opened_here: list[Connection] = []

    def open_as(role: Role) -> Connection:
        opened_here.append(shop.connect(role))
        return opened_here[-1]

    yield open_as
    for conn in opened_here:
        conn.close()


@pytest.fixture
def admin(shop: Shop) -> Iterator[Connection]:
    """The superuser on the test's database: to look at everything, and to break things on purpose."""
    assert shop.services is not None
    with closing(open_connection(shop.services.superuser_url(shop.database))) as conn:
        yield conn


@pytest.fixture
def workspace(shop: Shop, connect: Any) -> UUID:
    """The id of workspace main."""
    return shop.workspace_id(connect(Role.READ))


@pytest.fixture
def clock(admin: Connection) -> Clock:
    """Moves the database's clock."""
    return Clock(admin)


@pytest.fixture
def road(shop: Shop, tmp_path: Path) -> Iterator[Road]:
    """The line, every step committed with its neighbours."""
    line = Road(shop, tmp_path, Mode.FUSED)
    yield line
    line.close()


@pytest.fixture
def strict_road(shop: Shop, tmp_path: Path) -> Iterator[Road]:
    """The line, every step committed before the next."""
    line = Road(shop, tmp_path, Mode.STRICT)
    yield line
    line.close()


@pytest.fixture
def cli(shop: Shop) -> Any:
    """Run `shopfloor ARGS…` as a person would, in a process of its own, against the test's database."""

    def run(*arguments: str, input: str | None = None, env: dict[str, str] | None = None, timeout: float = 60) -> Result:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SHOPFLOOR_")}
        # Kept from writing, it would compile every library anew for every command.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        environment |= {
            "SHOPFLOOR_DATA_DIR": str(shop.data_dir),
            "SHOPFLOOR_DATABASE": shop.database,
            "SHOPFLOOR_TRACKER_DIR": str(shop.tracker_dir),
            "PYTHONPATH": str(ROOT),
            "PYTHONPYCACHEPREFIX": str(Path(tempfile.gettempdir()) / "shopfloor-pycache"),
        } | (env or {})
        done = subprocess.run(
            [sys.executable, "-m", "console", *arguments],
            input=input,
            capture_output=True,
            text=True,
            env=environment,
            timeout=timeout,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    return run
