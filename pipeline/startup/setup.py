"""Setting a factory up: roles, schema, workspace, cells, floor and the two first actors. Every step may be repeated."""

import getpass
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from contracts.errors import BadFloor, Denied, NotFound
from contracts.floor import Floor
from contracts.identity import new_id
from contracts.lifecycle import Role
from pipeline.access.tokens import actor_of, ensure_actor, issue_token
from pipeline.floors.publish import PublishedFloor, floor_file, floor_in_force, publish_cell, publish_floor, read_floor
from pipeline.startup.compose import ROLE_NAMES, Shop
from queues import schema
from queues.database import Connection, connect, one_value
from queues.embedded import write_atomically
from workcells.registry import BUILT_IN, Registry, folders, load_cell

_SETUP = "setup"
SERVICE = "intake"
"""The service actor that submits what commands take in, so that one person alone may review it."""


def load_registry(*roots: Path) -> Registry:
    """Return the cells that ship with shopfloor and those of other folders."""
    return Registry(load_cell(folder) for folder in folders(BUILT_IN, *roots))


def prepare_database(shop: Shop) -> tuple[str, str]:
    """Make the embedded database and its roles if they are not there, and migrate; return (version before, after)."""
    if shop.services is not None and shop.settings.is_embedded:
        with connect(shop.services.superuser_url("postgres"), name="setup") as conn:
            schema.ensure_roles(conn, shop.services.passwords(list(ROLE_NAMES)))
            _ensure_database(conn, shop.database)
    return schema.migrate(shop.migration_url())


def make_roles(shop: Shop) -> list[str]:
    """Make the owner and the logins of an external PostgreSQL, or bring them up to date; return their names.

    Each login gets the password that its own URL holds. Raises BadSetting when a role has no URL.
    """
    passwords = {}
    for role in Role:
        password = conninfo_to_dict(shop.url(role)).get("password")
        if password:
            passwords[schema.login(role)] = str(password)
    with connect(shop.migration_url(), name="setup") as conn:
        schema.ensure_roles(conn, passwords)
    return [schema.OWNER, *ROLE_NAMES]


def _ensure_database(conn: Connection, name: str) -> None:
    with conn.transaction():
        conn.execute("SELECT pg_advisory_xact_lock(hashtext('shopfloor.database'))")
        found = conn.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone()
    names = sql.Identifier(name), sql.Identifier(schema.OWNER)
    conn.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}" if found else "CREATE DATABASE {} OWNER {}").format(*names))


class FloorChoice(NamedTuple):
    """The floor that is in force after a set-up, and how it came to be."""

    in_force: PublishedFloor
    source: str
    """The file it was read from, or what it is."""
    before: Floor | None
    """The floor that it has replaced; None where the workspace had none, or keeps the one it had."""
    is_new: bool
    ignored: Path | None
    """A floor.yaml near the caller that is not in force: nothing is done with it."""


def set_up(shop: Shop) -> FloorChoice:
    """Bring a factory to where work can come in: schema, workspace, cells, floor, actors."""
    prepare_database(shop)
    registry = load_registry()
    with shop.connect(Role.OPERATE, name="setup") as conn:
        workspace = ensure_workspace(conn, shop.settings.workspace)
        for cell in registry.by_name.values():
            publish_cell(conn, cell, by=_SETUP)
        choice = choose_floor(conn, workspace, registry, named=shop.settings.floor)
        ensure_actor(conn, workspace, SERVICE, kind="service", roles=("submitter",))
        if shop.settings.is_embedded:
            own_token(shop, conn, workspace)
    return choice


def choose_floor(conn: Connection, workspace: UUID, registry: Registry, *, named: Path | None) -> FloorChoice:
    """Put the floor file that was named in force; otherwise keep the floor in force, whatever folder the caller is in.

    Where none is in force yet, the nearest floor.yaml upward is, else the built-in floor.
    """
    try:
        current = floor_in_force(conn, workspace)
    except NotFound:
        current = None
    if named is None and current is not None:
        nearest = floor_file(None)
        ignored = nearest if nearest and not _is_same(nearest, current.floor) else None
        return FloorChoice(current, "kept", None, is_new=False, ignored=ignored)
    found = floor_file(named)
    published = publish_floor(conn, workspace, read_floor(found), registry, by=_SETUP)
    is_new = current is None or published.id != current.id
    source = str(found) if found else "the built-in floor"
    return FloorChoice(published, source, current.floor if current and is_new else None, is_new=is_new, ignored=None)


def _is_same(path: Path, floor: Floor) -> bool:
    """Return whether a file holds this very floor. One that cannot be read does not."""
    try:
        return read_floor(path).sha256 == floor.sha256
    except BadFloor:
        return False


def ensure_workspace(conn: Connection, name: str) -> UUID:
    """Return the id of a workspace, made if it was not there."""
    found: UUID | None = one_value(conn, "SELECT workspace_named(%s)", [name])
    if found is None:
        conn.execute("INSERT INTO workspaces (id, name) VALUES (%s, %s) ON CONFLICT DO NOTHING", [new_id(), name])
        found = one_value(conn, "SELECT workspace_named(%s)", [name])
    assert found is not None
    return found


def _is_known(conn: Connection, token: str) -> bool:
    """Return False for a token of another database: this one was restored, or made anew, under the kept secrets."""
    try:
        actor_of(conn, token)
    except Denied:
        return False
    return True


def own_token(shop: Shop, conn: Connection, workspace: UUID) -> str:
    """Return the token of the OS user on the embedded default, made once and kept in the data folder for this user alone."""
    name = getpass.getuser()
    path = shop.data_dir / "secrets" / f"token.{shop.settings.workspace}.{name}"
    if path.exists():
        token = path.read_text(encoding="ascii").strip()
        if _is_known(conn, token):
            return token
    actor = ensure_actor(conn, workspace, name, kind="person", roles=("reviewer", "operator", "author", "admin"))
    token = issue_token(conn, workspace, actor, label="embedded default", by=name)
    write_atomically(path, token + "\n", 0o600)
    return token
