"""review approve, reject, rework: a person's answer to one proposal or to a group that asks for the same thing."""

import re
import shlex
from collections.abc import Callable, Sequence
from typing import Any

import click
from console.acting import Result, given, many_need_yes, refuse_empty_stdin, report, ring
from console.output import cell, formats
from contracts.errors import BadInput, Conflict, NotFound, ShopfloorError

PROPOSAL = "PROPOSAL is a proposal's id or the beginning of it, an item's id, or a subject such as owner/repo#12."
"""How a person may name a proposal; in the help of every verb of review."""


_NEEDS_REASON = {
    "reject": "it is all that the submitter and the record learn",
    "return": "the next attempt works from it",
}


def _answers(verb: str, *, needs_reason: bool) -> Callable[[Callable[..., None]], click.Command]:
    """Return the decorator that makes a deciding command with the options that all of them have."""

    def make(command: Callable[..., None]) -> click.Command:
        for option in reversed(
            (
                click.argument("proposals", nargs=-1, metavar="PROPOSAL…"),
                click.option(
                    "--reason",
                    default="",
                    help="kept with the decision" + (", and required" if needs_reason else ""),
                ),
                click.option("--hash", "sha256", metavar="SHA256", help="decide only if the bytes still have this hash"),
                click.option("--finding", help="all open proposals of one finding that ask for the same thing"),
                click.option("--action", help="with --finding: of one action"),
                click.option("--yes", is_flag=True, help="more than one at once"),
                click.option("--dry-run", is_flag=True, help="say what would be decided, decide nothing"),
                formats(rows=True),
            )
        ):
            command = option(command)
        return click.command(verb, epilog=PROPOSAL + " - reads them from stdin.")(command)

    return make


@_answers("approve", needs_reason=False)
def approve(**options: Any) -> None:
    """Approve the exact bytes of proposals.

    Those that they have now, or those of --hash: then nothing else is approved in their place.

    \b
    Example:
      shopfloor review approve northwind-labs/tidewater#8
      shopfloor review approve --finding resolved_by_merged_pr --yes
    """
    _decide("approve", "approved", options)


@_answers("reject", needs_reason=True)
def reject(**options: Any) -> None:
    """Reject proposals; their items end refused.

    \b
    Example:
      shopfloor review reject northwind-labs/tidewater#8 --reason "still broken on Windows"
    """
    _decide("reject", "rejected", options)


@_answers("rework", needs_reason=True)
def rework(**options: Any) -> None:
    """Send proposals back to their cell with your reason.

    The next attempt gets it as a finding; what it proposes then needs a new decision.

    \b
    Example:
      shopfloor review rework northwind-labs/tidewater#8 --reason "quote the changelog"
    """
    _decide("return", "sent back", options)


def _decide(answer: str, outcome: str, options: dict[str, Any]) -> None:
    from console.session import session
    from contracts.lifecycle import Role
    from pipeline.review.clearances import Answer, decide_all

    words = given(options["proposals"])
    refuse_empty_stdin(options["proposals"], words)
    _check(answer, words, options)
    verb, dry_run, form = f"review {answer if answer != 'return' else 'rework'}", options["dry_run"], options["form"]
    with session(Role.REVIEW) as s:
        ballots, about, results = _ballots(s, words, options)
        many_need_yes(len(ballots), yes=options["yes"], dry_run=dry_run, verb=verb)
        decided = decide_all(s.conn, s.workspace, s.token, ballots, Answer(answer), options["reason"], by=s.actor, dry_run=dry_run)
        for one in decided:
            said = ("would be " if dry_run else "") + ("approved; another reviewer has to" if one.state == "open" else outcome)
            results.append(Result(str(one.proposal_id), about[one.proposal_id], "" if one.error else said, one.error))
        if not dry_run:
            ring(s.shop, {one.lane for one in decided if one.lane})
    report(results, form, verb=verb)


def _check(answer: str, words: Sequence[str], options: dict[str, Any]) -> None:
    if bool(words) == bool(options["finding"]):
        raise BadInput("give proposals or --finding, not both", hint="shopfloor review inbox")
    if options["sha256"] and (len(words) != 1 or options["finding"]):
        raise BadInput("--hash goes with exactly one proposal")
    if answer != "approve" and not options["reason"].strip():
        raise BadInput(f"a decision needs a reason: {_NEEDS_REASON[answer]}", hint='--reason "what is wrong with it"', code="input.reason")
    if options["action"] and not options["finding"]:
        raise BadInput("--action goes with --finding")


def _ballots(s: Any, words: Sequence[str], options: dict[str, Any]) -> tuple[list[Any], dict[Any, str], list[Result]]:
    """Return what is to be decided, bound to the bytes of now, what each is about, and results for what cannot be."""
    from pipeline.review.clearances import Ballot
    from pipeline.review.proposal import find_proposal, proposal_details

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
            one = proposal_details(s.conn, s.shop.store, s.workspace, find_proposal(s.conn, s.workspace, word))
            _must_match(one, options["sha256"])
            ballots.append(Ballot(one["id"], one["sha256"]))
            about[one["id"]] = f"{one['action']} {one['target']}"
        except ShopfloorError as error:
            if len(words) == 1:
                raise
            refused.append(Result(word, "", "", error))
    return ballots, about, refused


def _must_match(one: dict[str, Any], wanted: str | None) -> None:
    if wanted and not re.fullmatch("[0-9a-fA-F]{64}", wanted.strip()):
        raise BadInput(f"--hash {wanted[:70]!r}: expected the 64 hex digits that `review show` prints")
    if wanted and one["sha256"].hex() != wanted.strip().lower():
        raise Conflict(
            f"proposal {one['id']} has another hash than was shown: {one['sha256'].hex()}, --hash says {wanted[:64]}",
            hint=f"shopfloor review show {one['id']}", code="review.stale",
        )  # fmt: skip


def _one_group(s: Any, options: dict[str, Any]) -> Sequence[Any]:
    """Return the members of the group that --finding and --action name. Raises when that is none, or several kinds."""
    from pipeline.review.inbox import group_proposals, read_inbox

    groups = group_proposals(
        read_inbox(s.conn, s.shop.store, s.workspace, finding=options["finding"], action=options["action"], limit=1000)
    )
    if not groups:
        raise NotFound(f"nothing of finding {options['finding'][:80]!r} waits for a reviewer", hint="shopfloor review inbox")
    if len(groups) > 1:
        kinds = "; ".join(f"{len(group)} × {group[0].action} {group[0].shape}" for group in groups[:5])
        raise BadInput(
            f"finding {options['finding']} asks for {len(groups)} different things: {cell(kinds)}",
            hint=_how_to_split(groups),
            code="review.mixed",
        )
    if not options["yes"] and not options["dry_run"]:
        raise BadInput(
            f"this would decide {len(groups[0])} proposals at once: say --yes, or look first with --dry-run",
            code="input.yes",
        )
    return groups[0]


def _how_to_split(groups: Sequence[Sequence[Any]]) -> str:
    """Return what to type to decide one of several groups: an action where that names one of them, else the ids of its members."""
    actions = [group[0].action for group in groups]
    alone = [action for action in dict.fromkeys(actions) if actions.count(action) == 1]
    ids = f"give the ids of one group from: shopfloor review inbox --finding {shlex.quote(groups[0][0].finding)} --jsonl"
    if not alone:
        return ids
    by_action = " or ".join(f"--action {action}" for action in alone)
    return f"decide one with {by_action}" if len(alone) == len(groups) else f"decide one with {by_action}, or {ids}"
