"""contract: check a cell's folder, publish it, and see what was published."""

from pathlib import Path
from typing import Any

import click
from console.output import cell as show_cell
from console.output import document, formats, listing, printable
from contracts.lifecycle import Role

_SHOWN_SHA = 12


@click.group()
def contract() -> None:
    """Contracts: what each cell takes, gives, may call, may propose, and is held to.

    \b
    Example:
      shopfloor contract check workcells/cells/issue_review
      shopfloor contract show issue_review
    """


@contract.command()
@click.argument("folder", type=click.Path(path_type=Path))
@formats()
def check(folder: Path, form: str) -> None:
    """Check a cell's folder: contract, soul, code, that every example gives the expected result, and that the gate passes it.

    Runs the cell's code, and needs no database. Exit 2 when the folder cannot be used, 1 when an example differs.

    \b
    Example:
      shopfloor contract check workcells/cells/issue_review
    """
    from contracts.errors import Refused
    from workcells.examples import try_examples
    from workcells.registry import load_cell

    cell = load_cell(folder)
    tried = list(try_examples(cell))
    wrong = [one for one in tried if one.why]
    if form == "json":
        document(
            {
                "contract": cell.contract.key,
                "sha256": cell.contract.sha256,
                "source_sha256": cell.source.sha256,
                "examples": [
                    {"name": one.name, "expects": one.kind, "passed": not one.why, "why": one.why, "note": one.note} for one in tried
                ],
                "warnings": cell.source.warnings,
            }
        )
    else:
        takes, gives = cell.contract.takes_name, cell.contract.gives_name
        click.echo(f"{cell.contract.key}  {cell.contract.sha256[:_SHOWN_SHA]}  takes {takes}, gives {gives}")
        for one in wrong:
            click.secho(f"  example {printable(one.name)}:", fg="red")
            for line in one.why.splitlines():
                click.echo(f"    {printable(line)}")
        for one in tried:
            if one.note:
                click.echo(f"  example {printable(one.name)}: {printable(one.note)}")
        passed = f"{len(tried) - len(wrong)} of {len(tried)} examples passed" if tried else "no examples found"
        click.echo(f"  {passed}")
    for warning in cell.source.warnings:
        click.echo(f"  {printable(warning)}", err=True)
    if wrong:
        raise Refused(
            f"{len(wrong)} of {len(tried)} examples of {cell.contract.key} failed",
            hint=f"fix {folder}/cell.py, or the example if it is wrong",
            code="contract.example",
        )


@contract.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="say what would be published, change nothing")
@formats()
def publish(folder: Path, dry_run: bool, form: str) -> None:
    """Publish a cell's contract and soul. What is published under a version never changes.

    Items run with a version only where a worker has its code: workers of `up` are replaced after publishing, others have to be restarted.

    \b
    Example:
      shopfloor contract publish workcells/cells/issue_review --dry-run
    """
    from console.session import session
    from pipeline.floors.publish import publish_cell, published_id
    from workcells.registry import load_cell

    cell = load_cell(folder)
    with session(Role.OPERATE, needs="author") as open_session:
        if dry_run:
            new = published_id(open_session.conn, cell) is None
        else:
            new = publish_cell(open_session.conn, cell, by=open_session.actor)
    if form == "json":
        document({"contract": cell.contract.key, "sha256": cell.contract.sha256, "new": new, "dry_run": dry_run})
    elif new:
        click.echo(f"{'would publish' if dry_run else 'published'} {cell.contract.key}  {cell.contract.sha256[:_SHOWN_SHA]}")
    else:
        click.echo(f"{cell.contract.key} is published already, with this very content")


@contract.command("list")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="at most so many")
@formats(rows=True)
def list_(limit: int, form: str) -> None:
    """List published contracts by name, newest version first.

    The column in_progress counts the items of this workspace that are pinned to a version and have not ended.

    \b
    Example:
      shopfloor contract list --json
    """
    from console.session import session
    from pipeline.floors.published import contracts

    with session(Role.READ) as open_session:
        found = contracts(open_session.conn, open_session.workspace)[:limit]
    rows = [{name: value for name, value in row.items() if name != "body"} for row in found]
    columns = ["name", "version", "in_progress", "sha256", "published_at", "published_by"]
    if form == "text":
        rows = [row | {"sha256": row["sha256"][:_SHOWN_SHA]} for row in rows]
    listing(form, rows, name="contracts", columns=columns, empty="no contract is published; see: shopfloor up")


@contract.command()
@click.argument("name")
@click.option("--raw", is_flag=True, help="the exact bytes that are hashed and pinned")
@formats()
def show(name: str, raw: bool, form: str) -> None:
    """Show a published contract: its newest version, or the one after @.

    \b
    Example:
      shopfloor contract show issue_review@1.0.0
    """
    from console.session import session
    from pipeline.floors.published import contract_named

    with session(Role.READ) as open_session:
        row, found = contract_named(open_session.conn, open_session.workspace, name)
    if raw:
        click.echo(found.body, nl=False)
    elif form == "json":
        document({name: value for name, value in row.items() if name != "body"} | {"document": found.document})
    else:
        _tell(row, found)


def _tell(row: dict[str, Any], found: Any) -> None:
    click.secho(f"{found.key}  {printable(found.summary)}", bold=True)
    click.echo(f"  sha256     {found.sha256}")
    click.echo(f"  published  {show_cell(row['published_at'])} by {show_cell(row['published_by'])}")
    click.echo(f"  takes      {found.takes_name}")
    click.echo(f"  gives      {found.gives_name}")
    click.echo(f"  evidence   {'required' if found.evidence_required else 'not required'}: {', '.join(found.evidence_sources)}")
    click.echo(f"  tools      {', '.join(found.tools_allow) or 'none'}")
    attempts = ", ".join(f"{cause} {most}" for cause, most in found.ceilings.items())
    click.echo(f"  limits     {found.max_seconds} s, {found.max_bytes} bytes; attempts: {attempts}")
    if found.uncertainty:
        click.echo(f"  uncertain  below {found.uncertainty.below:g}: {found.uncertainty.then}")
    click.echo("  gate")
    for check_ in found.qa:
        rule = f": {printable(check_.expression.text)}" if check_.expression else ""
        click.echo(f"    {check_.name} → {check_.on_fail}{rule}")
    click.echo("  may propose" if found.proposes else "  proposes nothing")
    for clause in found.proposes.values():
        click.echo(f"    {clause.action}, tier {clause.tier}, rests on {', '.join(clause.depends_on)}")
