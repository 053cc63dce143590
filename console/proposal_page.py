"""A proposal as a reviewer reads it: the exact bytes, the target, the evidence, what a decision needs."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from console.output import as_typed, cell
from contracts.excerpts import visible
from pipeline.review.proposal import must_not_decide


def lines_of(one: Mapping[str, Any], target: Mapping[str, Any] | None) -> Iterator[str]:
    """Yield the page line by line, every character that a screen would obey made visible.

    `target` is what `pipeline.review.preview` saw; None where this shell may not read the target.
    """
    yield f"{visible(one['action'])} {visible(one['target'])}   {visible(one['title'])}"
    yield f"proposal {one['id']}   item {one['item_id']}   state {one['state']}"
    yield f"finding {visible(one['finding'])}   confidence {one['confidence']:.2f}   since {cell(one['created_at'])}"
    if one["value"].get("summary"):
        yield f"says: {visible(str(one['value']['summary']))}"
    yield ""
    yield f"What will run: these {len(one['envelope_bytes'])} bytes and no others, sha256 {one['sha256'].hex()}"
    yield from (f"  {line}" for line in pretty(one["envelope"]))
    yield ""
    yield from _target(one, target)
    yield ""
    yield from _evidence(one["evidence"])
    yield ""
    yield from _requirements(one)
    if one["clearance"] == "open":
        yield ""
        yield "Decide:"
        sha256 = one["sha256"].hex()
        yield as_typed(f"  shopfloor review approve {one['id']} --hash {sha256}")
        yield as_typed(f"  shopfloor review reject {one['id']} --hash {sha256} --reason WHY")
        yield as_typed(f"  shopfloor review rework {one['id']} --hash {sha256} --reason WHAT")


def pretty(value: Any) -> list[str]:
    """Return a JSON value over several lines, keys in order, safe to print."""
    text = json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True)
    return [visible(line) for line in text.split("\n")]


def _target(one: Mapping[str, Any], target: Mapping[str, Any] | None) -> Iterator[str]:
    if target is None:
        yield f"The target as the decision found it; the live one needs {one['adapter']}'s credentials:"
        yield as_typed(f"  shopfloor apply preview {one['id']}")
        for name, value in sorted(one["envelope"]["precondition"].items()):
            yield f"  {visible(name)}: {_shown(value)}"
        return
    if target["error"]:
        yield f"The target cannot be read now: {visible(target['error'])}"
        return
    yield "Against the target as it is now:"
    yield from target_lines(target)
    if not target["changed"]:
        names = ", ".join(sorted(one["envelope"]["precondition"])) or "nothing"
        yield f"  nothing that the decision rests on has changed ({visible(names)})"


def target_lines(target: Mapping[str, Any]) -> Iterator[str]:
    """Yield the diff against the live target, and each declared field that has changed since the decision."""
    yield from (f"  {line}" for line in target["diff"].split("\n") if line)
    if not target["diff"]:
        yield "  (it would change nothing)"
    for name, both in target["changed"].items():
        then, now = _shown(both["then"]), _shown(both["now"])
        yield f"  ! {visible(name)} changed since the decision: it was {then}, it is {now}; applied now, this drifts"


def _shown(value: Any) -> str:
    return visible(json.dumps(value, ensure_ascii=False))


def _evidence(pieces: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield "Evidence:" if pieces else "Evidence: none"
    for piece in pieces:
        source = piece["source"]
        yield f"  {piece['no'] + 1}. {piece['stance']} ({piece['confidence']:.2f}): {visible(piece['claim'])}"
        if source["kind"] == "quote":
            place = f"{visible(source['subject'])} {source['field']}[{source['start']}:{source['end']}]"
            yield f"     {place}: “{visible(source['text'])}”"
        else:
            yield f"     {visible(source['subject'])} at revision {visible(source['revision'])}"


def _requirements(one: Mapping[str, Any]) -> Iterator[str]:
    counted = [said for said in one["decisions"] if said["decision"] == "approve" and not said["disabled"]]
    yield f"Requirements: clearance {one['clearance'] or 'none'}"
    if one["needed"]:
        people = "a reviewer approves" if one["needed"] == 1 else f"{one['needed']} different reviewers approve"
        yield f"  {_box(len(counted) >= one['needed'])} {people} (tier {one['tier']}): {len(counted)} so far"
    for said in one["decisions"]:
        gone = ", whose account is disabled: it counts no more" if said["disabled"] else ""
        why = f": {visible(said['reason'])}" if said["reason"] else ""
        yield f"      {said['decision']} by {visible(said['actor'])} at {cell(said['decided_at'])}{gone}{why}"
    yield f"  {_box(not one['expired'])} not expired (holds until {cell(one['expires_at'])})"
    yield f"  {_box(not one['others_on_target'])} nothing else is proposed for this target"
    for other in one["others_on_target"]:
        about = f"{visible(other['action'])} ({visible(other['finding'])})"
        yield f"      {other['state']}: {about}, proposal {other['id']}"
    barred = ", ".join(f"{visible(name)} ({why})" for name, why in must_not_decide(one).items())
    yield f"  may not decide: {barred}, and services"


def _box(done: bool) -> str:
    return "[x]" if done else "[ ]"
