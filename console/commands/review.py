"""review: see exactly what will run, then decide."""

from collections.abc import Callable, Sequence
from typing import Any

import click
from console.acting import Result, given, many_need_yes, report, ring
from console.output import age, cell, document, formats, listing, printable
from contracts.errors import BadInput, Conflict, ShopfloorError

_PROPOSAL = "PROPOSAL is a proposal's id or the beginning of it, an item's id, or a subject such as owner/repo#12."


@click.group()
def review() -> None:
    """The inbox: see exactly what will run, then decide.

    \b
    Example:
      shopfloor review inbox
      shopfloor review next
    """


@review.command()
@click.option("--finding", help="proposals of one finding")
@click.option("--action", help="proposals of one action, such as close")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 2000), help="proposals shown")
@formats(rows=True)
def inbox(finding: str | None, action: str | None, limit: int, form: str) -> None:
    """List what waits for reviewers, the most trusted first, equal proposals together.

    Trust is the cell's confidence, then how often people approved that finding in the last 30 days, then age.

    \b
    Example:
      shopfloor review inbox --finding resolved_by_merged_pr
    """
    from console.session import session
    from contracts.lifecycle import Role
    from pipeline.inbox import MOST, grouped, waiting

    with session(Role.READ) as s:
        found = waiting(s.conn, s.shop.store, s.workspace, finding=finding, action=action, most=MOST + 1)
        now = s.conn.execute("SELECT clock()").fetchone()
    assert now is not None
    more = len(found) > MOST
    groups = grouped(found[:MOST])
    shown = _cut(groups, limit)
    if form != "text":
        rows = [_row(one, number) for number, group in enumerate(shown, 1) for one in group]
        if form == "json":
            document(
                {
                    "open": len(found[:MOST]),
                    "more": more,
                    "groups": [_group(g, k) for k, g in enumerate(groups, 1)],
                    "proposals": rows,
                }
            )
        else:
            listing(form, rows, name="proposals", columns=list(_row(found[0], 1)) if found else None)
        return
    if not groups:
        click.echo("nothing waits for a reviewer")
        return
    for group, part in zip(groups, shown, strict=True):
        _tell_group(group, part, now[0], s.actor)
    seen = f"more than {MOST}; narrow with --finding" if more else f"{len(found)}"
    click.echo(f"{seen} open in {len(groups)} groups. Look: shopfloor review next   shopfloor review show PROPOSAL")


def _cut(groups: Sequence[Sequence[Any]], limit: int) -> list[Sequence[Any]]:
    """Return the groups with at most `limit` members in all, each group's most trusted first."""
    shown = []
    for group in groups:
        shown.append(group[: max(0, limit)])
        limit -= len(group)
    return shown


def _row(one: Any, number: int) -> dict[str, Any]:
    return {
        "group": number, "id": one.id, "item_id": one.item_id, "target": one.target, "title": one.title, "finding": one.finding,
        "action": one.action, "adapter": one.adapter, "confidence": round(one.confidence, 4), "tier": one.tier, "needed": one.needed,
        "approvals": one.approvals, "author": one.author, "submitter": one.submitter, "proposal_sha256": one.sha256,
        "created_at": one.created_at, "expires_at": one.expires_at,
    }  # fmt: skip


def _group(group: Sequence[Any], number: int) -> dict[str, Any]:
    first = group[0]
    return {
        "group": number, "count": len(group), "finding": first.finding, "action": first.action, "adapter": first.adapter, "tier": first.tier,
        "payload": first.shape, "confidence": [round(group[-1].confidence, 4), round(first.confidence, 4)],
        "approved_before": first.approved_before, "rejected_before": first.rejected_before, "oldest": min(one.created_at for one in group),
    }  # fmt: skip


def _tell_group(group: Sequence[Any], part: Sequence[Any], now: Any, actor: str) -> None:
    first, last = group[0], group[-1]
    low, high = f"{last.confidence:.2f}", f"{first.confidence:.2f}"
    decided = first.approved_before + first.rejected_before
    record = f"{first.approved_before} of {decided} approved" if decided else "no record yet"
    oldest = age((now - min(one.created_at for one in group)).total_seconds())
    click.echo(f"{len(group)} × {printable(first.finding)} → {printable(first.action)} {printable(first.shape)}")
    click.echo(
        f"    confidence {low if low == high else f'{low}–{high}'}, {record}, tier {first.tier}, oldest {oldest}"
    )
    for one in part:
        mine = "" if one.may_be_decided_by(actor) else "   (not by you)"
        second = f"   {one.approvals} of {one.needed} approved" if one.approvals else ""
        click.echo(
            f"    {one.id}  {one.confidence:.2f}  {printable(one.target)}  {printable(one.title)[:60]}{second}{mine}"
        )
    if len(part) < len(group):
        click.echo(f"    … {len(group) - len(part)} more: --limit")
    click.echo("")


@review.command(epilog=_PROPOSAL)
@click.argument("proposal")
@click.option("--raw", is_flag=True, help="the exact bytes that an approval binds, and nothing else")
@formats()
def show(proposal: str, raw: bool, form: str) -> None:
    """Show one proposal: the exact bytes that will run, the diff, the evidence, what a decision needs.

    \b
    Example:
      shopfloor review show northwind-labs/tidewater#8
      shopfloor review show 01993c8e --raw | sha256sum
    """
    from console.session import session
    from contracts.lifecycle import Role
    from pipeline.inbox import find_proposal

    with session(Role.READ) as s:
        _show(s, find_proposal(s.conn, s.workspace, proposal), form, raw=raw)


@review.command("next")
@click.option("--finding", help="of one finding")
@formats()
def next_(finding: str | None, form: str) -> None:
    """Show the most trusted proposal that you may decide on.

    \b
    Example:
      shopfloor review next
    """
    from console.session import session
    from contracts.lifecycle import Role
    from pipeline.inbox import waiting

    with session(Role.READ) as s:
        found = waiting(s.conn, s.shop.store, s.workspace, finding=finding, most=200)
        mine = next((one for one in found if one.may_be_decided_by(s.actor)), None)
        if mine is not None:
            _show(s, mine.id, form)
        elif form == "json":
            document({"proposal": None})
        else:
            click.echo(f"nothing waits for {s.actor}" + (f"; {len(found)} wait for others" if found else ""))


def _show(s: Any, proposal_id: Any, form: str, *, raw: bool = False) -> None:
    from console.dossier import lines_of
    from pipeline.inbox import dossier, must_not_decide
    from pipeline.preview import OPEN_ADAPTERS, against_target

    one = dossier(s.conn, s.shop.store, s.workspace, proposal_id)
    if raw:
        click.get_binary_stream("stdout").write(one["envelope_bytes"])
        return
    target = against_target(s.shop, one["envelope"]) if one["adapter"] in OPEN_ADAPTERS else None
    if form == "json":
        text = one.pop("envelope_bytes").decode()
        sha256 = one.pop("sha256")
        document(
            {
                "proposal": one
                | {
                    "proposal_sha256": sha256,
                    "envelope_text": text,
                    "target_now": target,
                    "may_not_decide": must_not_decide(one),
                }
            }
        )
        return
    for line in lines_of(one, target):
        click.echo(line)


def _answers(verb: str, *, needs_reason: bool) -> Callable[[Callable[..., None]], click.Command]:
    """Return the decorator that makes a deciding command with the options that all of them have."""

    def make(command: Callable[..., None]) -> click.Command:
        for option in reversed(
            (
                click.argument("proposals", nargs=-1, metavar="PROPOSAL…"),
                click.option(
                    "--reason",
                    required=needs_reason,
                    default="",
                    help="kept with the decision" + (", and told to the cell" if needs_reason else ""),
                ),
                click.option(
                    "--hash", "sha256", metavar="SHA256", help="decide only if the bytes still have this hash"
                ),
                click.option("--finding", help="all open proposals of one finding that ask for the same thing"),
                click.option("--action", help="with --finding: of one action"),
                click.option("--yes", is_flag=True, help="more than one at once"),
                click.option("--dry-run", is_flag=True, help="say what would be decided, decide nothing"),
                formats(rows=True),
            )
        ):
            command = option(command)
        return review.command(verb, epilog=_PROPOSAL + " - reads them from stdin.")(command)

    return make


@_answers("approve", needs_reason=False)
def approve(**options: Any) -> None:
    """Approve proposals: exactly the bytes that they have now, or those of --hash.

    \b
    Example:
      shopfloor review approve 01993c8e-6f1b-7c55-9d7e-0a6c5b1f2e3d
      shopfloor review approve --finding resolved_by_merged_pr --yes
    """
    _decide("approve", "approved", options)


@_answers("reject", needs_reason=False)
def reject(**options: Any) -> None:
    """Reject proposals; their items end refused.

    \b
    Example:
      shopfloor review reject 01993c8e-6f1b-7c55-9d7e-0a6c5b1f2e3d --reason "still broken on Windows"
    """
    _decide("reject", "rejected", options)


@_answers("rework", needs_reason=True)
def rework(**options: Any) -> None:
    """Send proposals back; the cell tries again with your reason as a finding.

    \b
    Example:
      shopfloor review rework 01993c8e-6f1b-7c55-9d7e-0a6c5b1f2e3d --reason "quote the changelog"
    """
    _decide("return", "sent back", options)


def _decide(answer: str, outcome: str, options: dict[str, Any]) -> None:
    from console.session import session
    from contracts.lifecycle import Role
    from pipeline.clearances import Answer, decide_all

    words = given(options["proposals"])
    _check(words, options)
    verb, dry_run, form = f"review {answer if answer != 'return' else 'rework'}", options["dry_run"], options["form"]
    with session(Role.REVIEW) as s:
        ballots, about, results = _ballots(s, words, options)
        many_need_yes(len(ballots), yes=options["yes"], dry_run=dry_run, verb=verb)
        if dry_run:
            results += [Result(str(one.proposal_id), about[one.proposal_id], f"would be {outcome}") for one in ballots]
        else:
            decided = decide_all(s.conn, s.workspace, s.token, ballots, Answer(answer), options["reason"], by=s.actor)
            for one in decided:
                said = "approved; another reviewer has to" if one.state == "open" else outcome
                results.append(
                    Result(str(one.proposal_id), about[one.proposal_id], "" if one.error else said, one.error)
                )
            ring(s.shop, {one.lane for one in decided if one.lane})
    report(results, form, verb=verb)


def _check(words: Sequence[str], options: dict[str, Any]) -> None:
    if bool(words) == bool(options["finding"]):
        raise BadInput("name proposals, or a group with --finding: one of the two", hint="shopfloor review inbox")
    if options["sha256"] and (len(words) != 1 or options["finding"]):
        raise BadInput("--hash goes with exactly one proposal")
    if options["action"] and not options["finding"]:
        raise BadInput("--action goes with --finding")


def _ballots(s: Any, words: Sequence[str], options: dict[str, Any]) -> tuple[list[Any], dict[Any, str], list[Result]]:
    """Return what is to be decided with the bytes that each has now, what each is about, and results for what cannot be."""
    from pipeline.clearances import Ballot
    from pipeline.inbox import dossier, find_proposal

    if options["finding"]:
        group = _one_group(s, options)
        return (
            [Ballot(one.id, one.sha256) for one in group],
            {one.id: f"{one.action} {one.target}" for one in group},
            [],
        )
    ballots, about, refused = [], {}, []
    for word in words:
        try:
            one = dossier(s.conn, s.shop.store, s.workspace, find_proposal(s.conn, s.workspace, word))
            _must_match(one, options["sha256"])
            ballots.append(Ballot(one["id"], one["sha256"]))
            about[one["id"]] = f"{one['action']} {one['target']}"
        except ShopfloorError as error:
            if len(words) == 1:
                raise
            refused.append(Result(word, "", "", error))
    return ballots, about, refused


def _must_match(one: dict[str, Any], wanted: str | None) -> None:
    if wanted and one["sha256"].hex() != wanted.strip().lower():
        raise Conflict(
            f"proposal {one['id']} is not the one that was shown: its hash is {one['sha256'].hex()}, --hash says {wanted[:64]}",
            hint=f"shopfloor review show {one['id']}", code="review.stale",
        )  # fmt: skip


def _one_group(s: Any, options: dict[str, Any]) -> Sequence[Any]:
    """Return the members of the one group that --finding and --action name. Raises when it is none, or several kinds."""
    from contracts.errors import NotFound
    from pipeline.inbox import grouped, waiting

    groups = grouped(
        waiting(s.conn, s.shop.store, s.workspace, finding=options["finding"], action=options["action"], most=1000)
    )
    if not groups:
        raise NotFound(
            f"nothing of finding {options['finding'][:80]!r} waits for a reviewer", hint="shopfloor review inbox"
        )
    if len(groups) > 1:
        kinds = "; ".join(f"{len(group)} × {group[0].action} {group[0].shape}" for group in groups[:5])
        raise BadInput(
            f"finding {options['finding']} asks for {len(groups)} different things: {cell(kinds)}",
            hint="decide each kind by itself: --action NAME, or the ids from: shopfloor review inbox --jsonl", code="review.mixed",
        )  # fmt: skip
    if not options["yes"] and not options["dry_run"]:
        raise BadInput(
            f"this would decide {len(groups[0])} proposals at once: say --yes, or look first with --dry-run",
            code="input.yes",
        )
    return groups[0]
