"""floor: check the floor file, put it in force, see what is and was in force."""

import json
from difflib import unified_diff
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from console.output import document, formats, listing, printable, say
from contracts.lifecycle import Role

if TYPE_CHECKING:
    from contracts.floor import Floor

_SHOWN_SHA = 12
_ORDER = ("floor", "pods", "flows", "lanes")


@click.group()
def floor() -> None:
    """The floor: which flows there are, which cell does what, who may do what on their own.

    \b
    Example:
      shopfloor floor show > floor.yaml
      shopfloor floor check floor.yaml && shopfloor floor apply floor.yaml --dry-run
    """


@floor.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@formats()
def check(file: Path | None, form: str) -> None:
    """Check a floor file, and that the shapes, cells and appliers it names exist. Needs no database.

    Without FILE: SHOPFLOOR_FLOOR, else the nearest floor.yaml upward, else the built-in floor.

    \b
    Example:
      shopfloor floor check floor.yaml
    """
    from pipeline.floors.check import check_floor
    from pipeline.floors.publish import BUILT_IN_FLOOR, floor_file, read_floor
    from pipeline.startup.settings import load
    from pipeline.startup.setup import load_registry

    found = floor_file(file or load().floor)
    parsed = read_floor(found)
    check_floor(parsed, load_registry())
    if form == "json":
        document(
            {
                "file": found or BUILT_IN_FLOOR,
                "sha256": parsed.sha256,
                "flows": list(parsed.flows),
                "pods": dict(parsed.pods),
            }
        )
    else:
        click.echo(f"{found or 'the built-in floor'}: good  {parsed.sha256[:_SHOWN_SHA]}")
        for flow in parsed.flows.values():
            to = f"{', '.join(flow.cells) or 'no cell'} → {flow.applier or 'report only'}"
            click.echo(f"  {flow.name}: {flow.shape} → {to}  (pod {flow.pod}, {parsed.pods[flow.pod]})")


@floor.command()
@click.argument("version", required=False)
@formats()
def show(version: str | None, form: str) -> None:
    """Print the floor in force as YAML, or an earlier one by the beginning of its id or hash.

    \b
    Example:
      shopfloor floor show > floor.yaml
    """
    from console.session import session
    from pipeline.floors.published import floor_version

    with session(Role.READ) as open_session:
        row = floor_version(open_session.conn, open_session.workspace, version)
    if form == "json":
        document({name: value for name, value in row.items() if name != "body"} | {"floor": json.loads(row["body"])})
        return
    click.echo(f"# floor {row['id']}, published {row['published_at']:%Y-%m-%dT%H:%M:%SZ} by {printable(row['published_by'])}")
    click.echo(_yaml(row["body"]), nl=False)


@floor.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="print what would change, change nothing")
@formats()
def apply(file: Path, dry_run: bool, form: str) -> None:
    """Put a floor file in force. Batches taken in before keep the floor that they came in under.

    It stays in force until another one is applied, here or by `up --floor`. Autonomy of pods
    and limits of lanes hold for all work at once. Applying the floor in force changes nothing.

    \b
    Example:
      shopfloor floor apply floor.yaml --dry-run
    """
    from console.session import session
    from contracts.floor import parse_floor
    from pipeline.floors.check import check_floor
    from pipeline.floors.publish import publish_floor, read_floor
    from pipeline.floors.published import floor_version
    from pipeline.startup.setup import load_registry
    from pipeline.worker.inline import lanes_of

    wanted, registry = read_floor(file), load_registry()
    with session(Role.OPERATE, needs="operator") as open_session:
        before = floor_version(open_session.conn, open_session.workspace, None)
        if dry_run:
            check_floor(wanted, registry)
            made = None
        else:
            made = publish_floor(open_session.conn, open_session.workspace, wanted, registry, by=open_session.actor)
    old = parse_floor(bytes(before["body"]).decode(), "the floor in force")
    changes = changes_between(old, wanted, str(file))
    served = {lane for role in (Role.PROPOSE, Role.APPLY) for lane in lanes_of(old, role)}
    unserved = sorted({lane for role in (Role.PROPOSE, Role.APPLY) for lane in lanes_of(wanted, role)} - served)
    if form == "json":
        document(
            {
                "id": made.id if made else None,
                "sha256": wanted.sha256,
                "changed": bool(changes),
                "diff": changes,
                "new_lanes": unserved,
                "dry_run": dry_run,
            }
        )
        return
    for line in changes:
        click.echo(printable(line))
    if not changes:
        click.echo("this floor is in force already")
    elif made:
        click.echo(f"in force: floor {made.id}")
    else:
        click.echo("nothing was changed")
    if unserved and not dry_run:
        say(f"new lanes: {', '.join(unserved)}; workers of `shopfloor up` serve them within seconds, others once they are started again")


@floor.command()
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="at most so many")
@formats(rows=True)
def history(limit: int, form: str) -> None:
    """List the floors that were put in force, the one in force first.

    \b
    Example:
      shopfloor floor history --json
    """
    from console.session import session
    from pipeline.floors.published import floors

    with session(Role.READ) as open_session:
        found = floors(open_session.conn, open_session.workspace, limit=limit)
    rows: list[dict[str, Any]] = [
        {name: value for name, value in row.items() if name != "body"} | {"flows": ", ".join(json.loads(row["body"])["flows"])}
        for row in found
    ]
    if form == "text":
        rows = [row | {"sha256": row["sha256"][:_SHOWN_SHA]} for row in rows]
    listing(
        form,
        rows,
        name="floors",
        columns=["id", "sha256", "published_at", "published_by", "flows"],
        empty="no floor; see: shopfloor up",
    )


def changes_between(old: "Floor", new: "Floor", name: str) -> list[str]:
    """Return the lines of the difference between the floor in force and another one; none where they are the same."""
    return list(unified_diff(_yaml(old.body).splitlines(), _yaml(new.body).splitlines(), "in force", name, lineterm="", n=2))


def _yaml(body: bytes) -> str:
    import yaml

    value = json.loads(body)
    ordered = {key: value[key] for key in _ORDER if key in value}
    return yaml.safe_dump(ordered, sort_keys=False, allow_unicode=True, width=110)
