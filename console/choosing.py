"""Choosing items by what is in them: the option `--where`, and what is said about how far it scan."""

from collections.abc import Mapping
from typing import Any

import click
from console.output import printable, progress, progress_done

where_option = click.option(
    "--where", metavar="EXPR", help="a CEL rule over the payload, as `item`: item.labels.exists(l, l == 'bug')"
)  # fmt: skip


def choose(s: Any, said: Mapping[str, Any], where: str | None) -> Any:
    """Return the items in progress that match every filter and the rule, and say on stderr what was left out."""
    from pipeline.operations.payloads import compile_rule
    from pipeline.operations.selection import select_by_filter, select_by_rule
    from queues.database import transaction
    from queues.lookup import filter_of

    compiled = compile_rule(where) if where is not None else None
    with transaction(s.conn, s.workspace):
        wanted = filter_of(s.conn, said)
    if compiled is None:
        found = select_by_filter(s.conn, s.workspace, wanted)
    else:
        try:
            found = select_by_rule(
                s.conn, s.shop.store, s.workspace, wanted, compiled, on_progress=lambda n: progress(f"looked at {n:,} payloads")
            )
        finally:
            progress_done()
        say_scanned(found.scan)
    say_cut(is_cut=found.is_cut)
    return found


def say_cut(*, is_cut: bool) -> None:
    """Say on stderr when more match than are taken at once."""
    from pipeline.operations.selection import MAX_SELECTED

    if is_cut:
        click.echo(
            f"more than {MAX_SELECTED:,} match: the first of them are taken; narrow it by another filter, or do the same again", err=True
        )


def say_scanned(scan: Any) -> None:
    """Say on stderr how many payloads a rule looked at, and for which it had no answer."""
    missing = f", {scan.no_answer} of them had no answer and do not match, such as {printable(scan.example)}" if scan.no_answer else ""
    click.echo(f"looked at {scan.payloads} payloads{missing}", err=True)
