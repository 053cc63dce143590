"""An item's dossier for people: why, order, payload, timeline, attempts, evidence beside its claim, proposals."""

import json
from collections.abc import Iterable
from typing import Any

import click
from console.output import cell, plain, printable, say, table

_VALUE_CHARS = 100


def tell_why(answer: dict[str, Any]) -> None:
    """Print where an item is and why, then what happens next and what to type."""
    from queues.board.endings import format_duration

    place = f"{answer['stage']}/{answer['state']}" + (f", reason {answer['reason']}" if answer["reason"] else "")
    click.echo(f"{printable(answer['subject'])}  {answer['item_id']}")
    click.echo(f"  {place}, since {cell(answer['since'])} ({format_duration(answer['since_seconds'])})")
    click.echo(f"  {printable(answer['words'])}")
    when = f"  ({cell(answer['next_at'])})" if answer["next_at"] else ""
    say(f"  next: {printable(answer['next'])}{when}")
    for command in answer["type"]:
        say(f"    {printable(command)}")


def move_line(move: dict[str, Any]) -> dict[str, Any]:
    """Return a move as one short row for people."""
    gap = move["gap_seconds"]
    return {
        "no": move["no"],
        "at": move["at"],
        "gap": "" if gap is None else f"+{gap:.1f}s",
        "move": move["move"],
        "from": f"{move['from_stage']}/{move['from_state']}",
        "to": f"{move['to_stage']}/{move['to_state']}",
        "fence": move["fence"],
        "actor": move["actor"],
        "reason": move["reason"],
    }


def tell(dossier: dict[str, Any]) -> None:
    """Print a dossier, part by part; parts with nothing in them are left out."""
    order, contract = dossier["order"], dossier["contract"]
    tell_why(dossier["why"])
    _part("order")
    _fields(order, ("id", "goal", "revision", "flow", "pod", "state", "finding", "submitter", "created_at", "closed_at", "withdrawn_at"))
    click.echo(f"  {'batch':<12} {order['batch_id']} row {order['row_no']}")
    if contract:
        click.echo(f"  {'contract':<12} {contract['name']}@{contract['version']} {contract['sha256'].hex()[:16]}")
    _payload(dossier["payload"])
    _rows("timeline", [move_line(move) for move in dossier["history"]])
    _rows("attempts", [_attempt(one) for one in dossier["attempts"]])
    if raised := [one for one in dossier["attempts"] if one["traceback"]]:
        _part(f"traceback of the last attempt that raised, fence {raised[-1]['fence']}")
        print_traceback(raised[-1]["traceback"])
    _rows("artifacts", [_artifact(one) for one in dossier["artifacts"]])
    _evidence(dossier["evidence"])
    _rows("findings", dossier["findings"], ("stage", "code", "message", "place"))
    for verdict in dossier["verdicts"]:
        _part(f"verdict: {'passed' if verdict['passed'] else 'failed'}")
        for check in verdict["checks"]:
            found = "; ".join(f"{one['code']}: {one['message']}" for one in check["findings"])
            click.echo(f"  {'✓' if check['passed'] else '✗'} {printable(check['check'])}  {printable(found)}".rstrip())
    for proposal in dossier["proposals"]:
        _proposal(proposal)


def _part(name: str) -> None:
    click.echo(f"\n{name}")


def _fields(values: dict[str, Any], names: Iterable[str]) -> None:
    for name in names:
        if values[name] not in (None, ""):
            click.echo(f"  {name:<12} {cell(values[name])}")


def _rows(name: str, rows: list[dict[str, Any]], columns: Iterable[str] = ()) -> None:
    if rows:
        _part(name)
        first, *rest = columns or rows[0]
        # The first column carries the indent of the part.
        table([row | {f"  {first}": f"  {cell(row[first])}"} for row in rows], [f"  {first}", *rest])


def _payload(payload: dict[str, Any] | None) -> None:
    if payload is None:
        _part("payload: its bytes are missing, damaged or erased; see: shopfloor doctor --strict")
        return
    _part("payload")
    for name, value in payload.items():
        text = value if isinstance(value, str) else json.dumps(plain(value), ensure_ascii=False)
        more = f" … {len(text)} characters" if len(text) > _VALUE_CHARS else ""
        click.echo(f"  {printable(name):<20} {printable(text[:_VALUE_CHARS])}{more}")


def print_traceback(text: str) -> None:
    """Print the traceback that an attempt left, indented under it."""
    for line in text.splitlines():
        click.echo(f"      {printable(line)}")


def _attempt(one: dict[str, Any]) -> dict[str, Any]:
    return {
        "stage": one["stage"],
        "fence": one["fence"],
        "outcome": one["outcome"],
        "cause": one["cause"],
        "seconds": f"{one['seconds']:.3f}",
        "message": one["message"],
    }


def _artifact(one: dict[str, Any]) -> dict[str, Any]:
    return {
        "kind": one["kind"],
        "sha256": one["sha256"].hex(),
        "bytes": "erased" if one["erased_at"] else one["size_bytes"],
        "id": one["id"],
    }


def _evidence(pieces: list[dict[str, Any]]) -> None:
    """Print each claim with what it rests on beneath it."""
    if pieces:
        _part("evidence")
    for piece in pieces:
        source = piece["source"]
        click.echo(f"  {piece['stance']} {piece['confidence']:.2f}  {printable(piece['claim'])}")
        if source["kind"] == "quote":
            place = f"{source['subject']} {source['field']}[{source['start']}:{source['end']}]"
            click.echo(f"      {printable(place)}: “{printable(source['text'])}”")
        else:
            click.echo(f"      {printable(source['subject'])} at revision {printable(source['revision'])}")


def _proposal(proposal: dict[str, Any]) -> None:
    _part(f"proposal {proposal['id']}: {proposal['state']}")
    act = f"{proposal['action']} {proposal['target']} through {proposal['adapter'] or 'nothing: report only'}"
    click.echo(f"  {printable(act)}, confidence {proposal['confidence']:.2f}, epoch {proposal['epoch']}")
    click.echo(f"  sha256       {proposal['sha256'].hex()}")
    click.echo(f"  by           {printable(proposal['author'])}, submitted by {printable(proposal['submitter'])}")
    if proposal["clearance"]:
        click.echo(f"  clearance    {proposal['clearance']}, tier {proposal['tier']}, {proposal['needed']} needed")
    for one in proposal["decisions"]:
        why = f": {one['reason']}" if one["reason"] else ""
        click.echo(f"  {one['decision']:<12} {printable(one['actor'] + why)}  {cell(one['decided_at'])}")
    for sent in proposal["applies"]:
        at = cell(sent["finished_at"] or sent["intent_at"])
        click.echo(f"  apply        {sent['state']} through {sent['adapter']}  {at}")
        if sent["receipt"] is not None:
            click.echo(f"  receipt      {printable(json.dumps(sent['receipt'], ensure_ascii=False))}")
