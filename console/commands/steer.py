"""requeue, rework, cancel, withdraw: what operators do to items, one or many."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

import click
from console.acting import ITEMS, Span, carry_out, given, on_many, refuse_empty_stdin, report
from console.choosing import choose, say_cut, where_option
from contracts.errors import BadInput
from contracts.lifecycle import CLAIMABLE_STAGES, Reason, Stage, State

_FILTERS = ("lane", "stage", "state", "reason", "flow", "order", "batch")
_QUEUED = tuple(state.value for state in (State.READY, State.LEASED, State.WAITING, State.DEAD))
_STAGES = [stage.value for stage in (Stage.INTAKE, *CLAIMABLE_STAGES)]


filters = on_many(
    click.option("--lane", help="all in a lane, such as cell.issue_review"),
    click.option("--stage", type=click.Choice(_STAGES), help="all in a stage"),
    click.option("--state", type=click.Choice(_QUEUED), help="all in a state"),
    click.option("--reason", type=click.Choice([reason.value for reason in Reason]), help="all that wait for this reason"),
    click.option("--flow", help="all of a flow"),
    click.option("--order", help="all of an order: its id or subject key"),
    click.option("--batch", help="all of a batch: its id, the beginning of it, or latest"),
    where_option,
)


@click.command(epilog=ITEMS)
@filters
@click.option("--stagger", type=Span(), metavar="DURATION", help="spread them over this long instead of all at once: 10m, 2h")
def requeue(stagger: float | None, **options: Any) -> None:
    """Make items due now: those named, those on stdin (-), or all that match every filter.

    \b
    Example:
      shopfloor requeue --reason human --flow issue-sweep --dry-run
      shopfloor requeue --lane apply.tracker --state dead --stagger 10m --yes
      shopfloor requeue --reason human --where "item.title.contains('crash')" --dry-run
    """
    from pipeline.operations import steering

    def act(s: Any, items: Sequence[UUID]) -> Any:
        return steering.requeue(
            s.conn,
            s.workspace,
            items,
            by=s.actor,
            why=options["why"],
            stagger_seconds=stagger or 0.0,
            dry_run=options["dry_run"],
        )

    _steer("requeue", act, options)


@click.command(epilog=ITEMS)
@filters
def rework(**options: Any) -> None:
    """Send waiting items to rework, with --why as a finding for the next attempt.

    \b
    Example:
      shopfloor rework northwind-labs/tidewater#8 --why "look at the newest comment too"
    """
    from pipeline.operations import steering

    if not options["why"].strip():
        raise BadInput("rework needs a reason: the next attempt is told", hint='--why "what to look at"')

    def act(s: Any, items: Sequence[UUID]) -> Any:
        return steering.rework(s.conn, s.workspace, items, by=s.actor, why=options["why"], dry_run=options["dry_run"])

    _steer("rework", act, options)


@click.command(epilog=ITEMS)
@filters
def cancel(**options: Any) -> None:
    """End items. What is being applied right now is left alone; open proposals end with their items.

    \b
    Example:
      shopfloor cancel northwind-labs/tidewater#8
      shopfloor cancel --batch latest --dry-run
    """
    from pipeline.operations import steering

    def act(s: Any, items: Sequence[UUID]) -> Any:
        return steering.cancel(s.conn, s.workspace, items, by=s.actor, why=options["why"], dry_run=options["dry_run"])

    _steer("cancel", act, options)


@click.command(epilog=ITEMS)
@on_many(click.option("--batch", help="all of a batch, ended ones too: its id, the beginning of it, or latest"))
def withdraw(**options: Any) -> None:
    """Take back revisions that should not have come in: later rows of their subjects are compared with the others.

    What is in progress is cancelled. A revision that one of these superseded may come in again.

    \b
    Example:
      shopfloor withdraw northwind-labs/tidewater#8 --why "its clock was wrong"
      shopfloor withdraw --batch latest --why "exported with the wrong column as revision" --dry-run
    """
    from pipeline.operations.withdrawal import withdraw as withdraw_items

    if not options["why"].strip():
        raise BadInput("withdraw needs a reason: it stays with the revision", hint='--why "what was wrong with it"')

    def act(s: Any, items: Sequence[UUID]) -> Any:
        return withdraw_items(s.conn, s.workspace, items, by=s.actor, why=options["why"], dry_run=options["dry_run"])

    _steer("withdraw", act, options, pick=_of_batch)


def _of_batch(s: Any, said: Mapping[str, Any]) -> Any:
    from pipeline.operations.selection import select_by_batch

    found = select_by_batch(s.conn, s.workspace, said["batch"])
    say_cut(is_cut=found.is_cut)
    return found


def _matching(s: Any, said: Mapping[str, Any]) -> Any:
    return choose(s, {name: value for name, value in said.items() if name != "where"}, said.get("where"))


def _steer(
    verb: str,
    act: Callable[[Any, Sequence[UUID]], Any],
    options: dict[str, Any],
    *,
    pick: Callable[[Any, Mapping[str, Any]], Any] = _matching,
) -> None:
    from console.session import session
    from contracts.lifecycle import Role
    from pipeline.operations.selection import select_by_name

    words = given(options["items"])
    refuse_empty_stdin(options["items"], words)
    said = {name: options[name] for name in (*_FILTERS, "where") if options.get(name)}
    if bool(words) == bool(said):
        raise BadInput(
            "give ids or a filter, not both",
            hint="see what a filter picks: shopfloor items --lane LANE",
        )
    with session(Role.OPERATE, needs="operator") as s:
        found = select_by_name(s.conn, s.workspace, words) if words else pick(s, said)
        results = carry_out(s, found, act, options, verb=verb, by_name=bool(words), rings=verb in ("requeue", "rework"))
    report(results, options["form"], verb=verb)
