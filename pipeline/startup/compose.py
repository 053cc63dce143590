"""The composition root: from settings to connected parts. Nothing else reads settings and opens connections."""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from artifacts.blobs import BlobStore
from contracts.errors import BadSetting, Conflict, NotFound, Unavailable
from contracts.lifecycle import Role
from pipeline.startup.settings import Settings, load
from queues import schema
from queues.database import Connection, connect, one_value
from queues.embedded import Services, attach, attach_or_start, check_owner, default_data_dir

if TYPE_CHECKING:
    from queues.doorbell import Doorbell

ROLE_NAMES = tuple(schema.login(role) for role in Role)


OLDEST_POSTGRES = 15


@dataclass(frozen=True)
class Shop:
    """A factory that can be talked to: where its database, broker, store and targets are."""

    settings: Settings
    services: Services | None

    @property
    def database(self) -> str:
        """The name of the database in the embedded server."""
        return self.settings.database

    @cached_property
    def data_dir(self) -> Path:
        """The folder that holds everything of this factory that is not in an external service."""
        return self.settings.data_dir or default_data_dir()

    @cached_property
    def store(self) -> BlobStore:
        """The store of large bodies."""
        return BlobStore(self.data_dir / "blobs")

    @cached_property
    def tracker_dir(self) -> Path:
        """The folder that the applier `tracker` changes."""
        return self.settings.tracker_dir or self.data_dir / "tracker"

    @property
    def demo_tracker_dir(self) -> Path:
        """The folder that the applier `demo` writes to: below the tracker's, whose own folders have other names (`owner__repo`)."""
        return self.tracker_dir / "demo"

    @property
    def broker_url(self) -> str:
        """The address of the doorbell."""
        if self.settings.broker_url is not None:
            return self.settings.broker_url.reveal()
        if self.services is None:
            raise Unavailable("no broker: SHOPFLOOR_DATABASE_URL is set and SHOPFLOOR_BROKER_URL is not", hint="set SHOPFLOOR_BROKER_URL")
        return self.services.broker_url

    def doorbell(self) -> "Doorbell":
        """Return a doorbell of this factory's own: factories on one broker do not hear each other."""
        # Imported here: most commands only read, and the broker's client is a fifth of their start.
        from queues.doorbell import Doorbell

        return Doorbell(self.broker_url, namespace=self.database)

    def url(self, role: Role) -> str:
        """Return the address of the database as one role."""
        external = self.settings.role_url(role)
        if external is not None:
            return external.reveal()
        # Never the embedded database in its place: half a configuration would work on the wrong data.
        if self.services is None or not self.settings.is_embedded:
            raise BadSetting(
                f"SHOPFLOOR_DATABASE_URL_{role.upper()} is not set, and other database addresses are: every role has a login of its own",
                hint=f"set SHOPFLOOR_DATABASE_URL_{role.upper()}; see them all: shopfloor settings",
            )
        return self.services.database_url(schema.login(role), self.database)

    def migration_url(self) -> str:
        """Return the address that migrations run on."""
        if self.settings.database_url is not None:
            return self.settings.database_url.reveal()
        if self.services is None or not self.settings.is_embedded:
            raise BadSetting(
                "SHOPFLOOR_DATABASE_URL is not set, and addresses of roles are: migrations need a role that may migrate",
                hint="set SHOPFLOOR_DATABASE_URL",
            )
        return self.services.superuser_url(self.database)

    def connect(self, role: Role, *, name: str = "shopfloor", worker: bool = False) -> Connection:
        """Return a connection as one role, after checking that the schema is the one this code needs."""
        conn = connect(self.url(role), name=name, worker=worker)
        _check_server(conn, role)
        check_schema(conn)
        return conn

    def workspace_id(self, conn: Connection, name: str | None = None) -> UUID:
        """Return the id of a workspace by name, by default the one of the settings. Raises NotFound."""
        wanted = name or self.settings.workspace
        found: UUID | None = one_value(conn, "SELECT workspace_named(%s)", [wanted])
        if found is None:
            raise NotFound(
                f"no workspace named {wanted!r}", hint="check SHOPFLOOR_WORKSPACE; or make a workspace of that name: shopfloor up"
            )
        return found


def _check_server(conn: Connection, role: Role) -> None:
    """Raise unless the server is one that is served, and the login is the role's own: another could do more, or less. No round trip."""
    user, version = conn.info.user, conn.info.server_version // 10_000
    if user == schema.login(role) and version >= OLDEST_POSTGRES:
        return
    conn.close()
    if version < OLDEST_POSTGRES:
        raise Unavailable(f"the database is PostgreSQL {version}: expected {OLDEST_POSTGRES} or newer", code="unavailable.version")
    raise BadSetting(
        f"SHOPFLOOR_DATABASE_URL_{role.upper()} logs in as {user}: expected {schema.login(role)}, which may do what its role may and no more",
        hint="make the logins: shopfloor db migrate --make-roles",
    )


def check_schema(conn: Connection) -> None:
    """Raise unless the database has exactly the schema version that this code was written for."""
    have, need = schema.version_of(conn), schema.newest_version()
    if have == need:
        return
    conn.close()
    schema.refuse_newer(have)
    if not have:
        raise Conflict("the database has no shopfloor schema", hint="shopfloor db migrate", code="schema.missing")
    raise Conflict(
        f"the database has schema version {have}, this shopfloor needs {need}", hint="shopfloor db migrate", code="schema.version"
    )


def open_shop(settings: Settings | None = None, *, start: bool = True, acts: bool = False) -> Shop:
    """Return the shop of these settings, starting the embedded services when `start` and none run.

    With `start` or `acts`, refuses a data folder of somebody else before anything is done there. Raises Unavailable when
    services are needed and may not be started.
    """
    settings = settings or load()
    if start or acts:
        refuse_foreign_folder(settings)
    if not settings.is_embedded and settings.broker_url is not None:
        return Shop(settings, None)
    data_dir = settings.data_dir or default_data_dir()
    if start:
        return Shop(settings, attach_or_start(data_dir, ROLE_NAMES))
    services = attach(data_dir)
    if services is None and settings.is_embedded:
        raise Unavailable(
            f"nothing runs in {data_dir}", hint="shopfloor up   (or, to see it work: shopfloor demo)", code="unavailable.not_running"
        )
    return Shop(settings, services)


def refuse_foreign_folder(settings: Settings) -> None:
    """Raise BadSetting when the data folder belongs to another user. Every verb that starts, stops or writes calls this first.

    With external services another user may be let into the store by its group, as the processes of a crew are; root, whom no
    mode keeps out, would leave files that the owner cannot read.
    """
    if settings.is_embedded or settings.broker_url is None or os.geteuid() == 0:
        check_owner(settings.data_dir or default_data_dir())
