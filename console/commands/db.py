"""db: the database's schema, its version, and its address by role."""

from typing import Any

import click
from console.output import document, formats
from contracts.lifecycle import Role

MIGRATE = "migrate"
"""The address that migrations run on; no worker uses it."""


@click.group()
def db() -> None:
    """The database: migrate it, see its version, get its address.

    \b
    Example:
      shopfloor db status
      psql "$(shopfloor db url --role audit)" -c 'SELECT * FROM inspect.items LIMIT 5'
    """


@db.command()
@click.option(
    "--make-roles",
    is_flag=True,
    help="first make the logins of an external PostgreSQL, with the passwords of the role URLs",
)
@click.option("--dry-run", is_flag=True, help="say what would be done, change nothing")
@formats()
def migrate(make_roles: bool, dry_run: bool, form: str) -> None:
    """Bring the schema to the version that this shopfloor needs. Repeating it changes nothing.

    The embedded services are started when they do not run. With an external PostgreSQL, SHOPFLOOR_DATABASE_URL
    has to name a user that may `SET ROLE shopfloor_owner`; for --make-roles, one that may create roles.

    \b
    Example:
      shopfloor db migrate --dry-run
      shopfloor db migrate
    """
    from pipeline.startup.compose import open_shop
    from pipeline.startup.setup import make_roles as make
    from pipeline.startup.setup import prepare_database
    from queues.schema import newest_version

    shop = open_shop(start=not dry_run)
    if dry_run:
        before, after, made = _version(shop.migration_url()), newest_version(), []
    else:
        made = make(shop) if make_roles else []
        before, after = prepare_database(shop)
    if form == "json":
        document({"before": before or None, "after": after, "roles": made, "dry_run": dry_run})
        return
    if made:
        click.echo(f"roles made or brought up to date: {', '.join(made)}")
    would = "would be " if dry_run else ""
    click.echo(f"schema {after}: up to date" if before == after else f"schema {would}migrated: {before or 'none'} → {after}")


@db.command()
@formats()
def status(form: str) -> None:
    """Say which schema version the database has and which one is needed. Exit 4 when they differ.

    \b
    Example:
      shopfloor db status --json
    """
    from contracts.errors import Conflict
    from pipeline.startup.compose import open_shop
    from queues.database import connect, where
    from queues.schema import newest_version

    shop = open_shop(start=False)
    url = shop.url(Role.READ)
    with connect(url, name="db status") as conn:
        server = conn.info.parameter_status("server_version") or "unknown"
    have, need = _version(url), newest_version()
    fields: dict[str, Any] = {
        "database": where(url),
        "server": server,
        "embedded": shop.settings.is_embedded,
        "schema": have or None,
        "needs": need,
        "up_to_date": have == need,
    }
    if form == "json":
        document(fields)
    else:
        click.echo(f"database  {fields['database']}  PostgreSQL {server}{'  (embedded)' if fields['embedded'] else ''}")
        click.echo(f"schema    {have or 'none'}  (needs {need})")
    if have != need:
        seen, code = (f"schema version {have}", "schema.version") if have else ("no shopfloor schema", "schema.missing")
        raise Conflict(f"the database has {seen}, this shopfloor needs {need}", hint="shopfloor db migrate", code=code)


@db.command()
@click.option(
    "--role",
    type=click.Choice([*(role.value for role in Role), MIGRATE]),
    default=Role.READ.value,
    show_default=True,
    help="whose address",
)
@formats()
def url(role: str, form: str) -> None:
    """Print the address of the database as one role, WITH its password: it is there to be piped into psql.

    Row security shows rows of a workspace only after `SET shopfloor.workspace = 'ID'`. The role `audit` reads the
    views of the schema `inspect` across workspaces; `migrate` owns everything, and is for repairs.

    \b
    Example:
      psql "$(shopfloor db url --role audit)" -c 'SELECT stage, state, count(*) FROM inspect.items GROUP BY 1, 2'
    """
    from pipeline.startup.compose import open_shop

    shop = open_shop(start=False)
    address = shop.migration_url() if role == MIGRATE else shop.url(Role(role))
    if form == "json":
        document({"role": role, "url": address})
    else:
        click.echo(address)


def _version(url: str) -> str:
    from queues.database import connect
    from queues.schema import version_of

    with connect(url, name="db") as conn:
        return version_of(conn)
