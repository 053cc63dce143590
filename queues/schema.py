"""Roles, migrations and the schema's version: how a database becomes one of shopfloor's."""

import re
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql
from psycopg.rows import scalar_row
from contracts.errors import Refused, Unavailable
from contracts.lifecycle import Role

if TYPE_CHECKING:
    from alembic.config import Config

SCHEMA = "shopfloor"
PREFIX = "shopfloor_"
OWNER = "shopfloor_owner"

_VERSION_FILE = re.compile(r"v(\d{4})_\w+\.py")
_SESSION = {
    "search_path": "shopfloor",
    "timezone": "UTC",
    "statement_timeout": "60s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "10s",
}
_MOST_SCREENS = 50
"""Connections that each login may hold which is not the crew's."""


def login(role: Role) -> str:
    """Return the database login of a role."""
    return f"{PREFIX}{role.value}"


def ensure_roles(conn: psycopg.Connection, passwords: dict[str, str]) -> None:
    """Make the owner and one login per role, with their passwords and session limits; repeatable.

    Logins are members of nothing, own nothing and cannot bypass row security. The caller needs CREATEROLE.
    """
    with conn.transaction():
        # Roles belong to the cluster: two databases being made at once would race for them.
        conn.execute("SELECT pg_advisory_xact_lock(hashtext('shopfloor.roles'))")
        present = {name for (name,) in conn.execute("SELECT rolname FROM pg_roles WHERE rolname LIKE 'shopfloor%'")}
        if OWNER not in present:
            conn.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(OWNER)))
            conn.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(OWNER)))
        for role in Role:
            name = sql.Identifier(login(role))
            if login(role) not in present:
                conn.execute(sql.SQL("CREATE ROLE {} LOGIN NOINHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE").format(name))
                for setting, value in _SESSION.items():
                    conn.execute(sql.SQL("ALTER ROLE {} SET {} = {}").format(name, sql.Identifier(setting), value))
            # However many screens and intakes are opened, the crew gets its connections.
            limit = -1 if role in (Role.PROPOSE, Role.APPLY, Role.SWEEP) else _MOST_SCREENS
            conn.execute(sql.SQL("ALTER ROLE {} CONNECTION LIMIT {}").format(name, limit))
            if password := passwords.get(login(role)):
                conn.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(name, password))


def newest_version() -> str:
    """Return the schema version that this code needs."""
    return known_versions()[-1]


@cache
def known_versions() -> tuple[str, ...]:
    """Return every schema version that this code knows, oldest first: `0001` for the file `v0001_….py`.

    Read from the names alone: every command asks, and loading Alembic would cost it a third of a second.
    """
    names = (file.name for file in files("queues.migrations").joinpath("versions").iterdir())
    return tuple(sorted(match[1] for name in names if (match := _VERSION_FILE.fullmatch(name))))


def version_of(conn: psycopg.Connection) -> str:
    """Return the schema version of a database, empty when it has none."""
    with conn.cursor(row_factory=scalar_row) as cursor:
        if cursor.execute("SELECT to_regclass('shopfloor.schema_version')").fetchone() is None:
            return ""
        return cursor.execute("SELECT version_num FROM shopfloor.schema_version").fetchone() or ""


def migrate(url: str) -> tuple[str, str]:
    """Bring a database to the newest version and return (version before, version after).

    Runs as the owner, in one transaction a version. Raises Refused when the database is newer than this code.
    """
    import sqlalchemy
    from alembic import command

    engine = sqlalchemy.create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1), poolclass=sqlalchemy.NullPool)
    try:
        with engine.connect() as conn:
            raw = conn.connection.driver_connection
            assert isinstance(raw, psycopg.Connection)
            _need_owner(raw)
            conn.exec_driver_sql("SELECT pg_advisory_lock(hashtext('shopfloor.migrate'))")
            conn.exec_driver_sql(f"SET ROLE {OWNER}")
            conn.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
            conn.exec_driver_sql(f"SET search_path = {SCHEMA}")
            conn.exec_driver_sql("SET statement_timeout = 0")
            deny_temporary(raw)
            before = version_of(raw)
            refuse_newer(before)
            conn.commit()
            config = _config()
            config.attributes["connection"] = conn
            command.upgrade(config, "head")
            conn.commit()
            return before, version_of(raw)
    except sqlalchemy.exc.OperationalError as error:
        raise Unavailable(f"the database cannot be reached: {error.orig}") from error
    finally:
        engine.dispose()


def deny_temporary(conn: psycopg.Connection) -> None:
    """Take from every login the right to temporary objects: nothing here uses them, and they come first in name look-ups.

    Heard by a database that the owner owns. In another one the guards and functions still name their own search path.
    """
    conn.execute(sql.SQL("REVOKE TEMPORARY ON DATABASE {} FROM PUBLIC").format(sql.Identifier(conn.info.dbname)))


def _need_owner(conn: psycopg.Connection) -> None:
    with conn.cursor(row_factory=scalar_row) as cursor:
        may_act = cursor.execute("SELECT pg_has_role(oid, 'MEMBER') FROM pg_roles WHERE rolname = %s", [OWNER]).fetchone()
    if may_act is None:
        raise Refused(
            f"this PostgreSQL has no role {OWNER}, which owns the schema",
            hint="shopfloor db migrate --make-roles, as a user that may create roles",
            code="schema.roles",
        )
    if not may_act:
        raise Refused(
            f"{conn.info.user} may not act as {OWNER}, which owns the schema",
            hint=f"GRANT {OWNER} TO {conn.info.user}",
            code="schema.roles",
        )


def refuse_newer(version: str) -> None:
    """Raise Refused when a database's version is one that this code has never heard of."""
    if version and version not in known_versions():
        raise Refused(
            f"the database has schema version {version}, newer than this shopfloor knows ({newest_version()})",
            hint="install the newer shopfloor, or point SHOPFLOOR_DATABASE_URL at another database",
            code="schema.newer",
        )


def _config() -> "Config":
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(files("queues.migrations")))
    config.set_main_option("version_path_separator", "os")
    return config
