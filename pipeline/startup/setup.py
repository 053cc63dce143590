"""Setting a factory up: roles, schema, workspace, cells, floor and the two first actors. Every step may be repeated."""

import getpass
from pathlib import Path
from uuid import UUID

from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from contracts.errors import Denied
from contracts.identity import new_id
from contracts.lifecycle import Role
from pipeline.access.tokens import actor_of, ensure_actor, issue_token
from pipeline.floors.publish import PublishedFloor, floor_file, floor_in_force, publish_cell, publish_floor, read_floor
from pipeline.startup.compose import ROLE_NAMES, Shop
from queues import schema
from queues.database import Connection, connect, transaction
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


def set_up(shop: Shop) -> PublishedFloor:
    """Bring a factory to where work can come in: schema, workspace, cells, floor, actors."""
    prepare_database(shop)
    registry = load_registry()
    with shop.connect(Role.OPERATE, name="setup") as conn:
        workspace = ensure_workspace(conn, shop.settings.workspace)
        for cell in registry.by_name.values():
            publish_cell(conn, cell, by=_SETUP)
        published = _put_in_force(shop, conn, workspace, registry)
        ensure_actor(conn, workspace, SERVICE, kind="service", roles=("submitter",))
        if shop.settings.is_embedded:
            own_token(shop, conn, workspace)
    return published


def _put_in_force(shop: Shop, conn: Connection, workspace: UUID, registry: Registry) -> PublishedFloor:
    """Put the floor file in force; without one, keep the floor that a person applied, else the built-in one."""
    if floor_file(shop.settings.floor) is None:
        with transaction(conn, workspace):
            row = conn.execute(
                "SELECT published_by FROM floors WHERE workspace_id = %s ORDER BY published_at DESC, id DESC LIMIT 1", [workspace]
            ).fetchone()
        if row is not None and row[0] != _SETUP:
            return floor_in_force(conn, workspace)
    return publish_floor(conn, workspace, read_floor(shop.settings.floor), registry, by=_SETUP)


def ensure_workspace(conn: Connection, name: str) -> UUID:
    """Return the id of a workspace, made if it was not there."""
    row = conn.execute("SELECT workspace_named(%s)", [name]).fetchone()
    if row is None or row[0] is None:
        conn.execute("INSERT INTO workspaces (id, name) VALUES (%s, %s) ON CONFLICT DO NOTHING", [new_id(), name])
        row = conn.execute("SELECT workspace_named(%s)", [name]).fetchone()
    assert row is not None
    found: UUID = row[0]
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
