"""The one lifecycle: what its table must never allow, whatever is added to it."""

from collections.abc import Iterable
from pathlib import Path

import pytest
from contracts.attempts import CEILINGS, Cause
from contracts.lifecycle import (
    ARCHIVED,
    BY_NUMBER,
    CLAIMABLE_STAGES,
    MOVE_MEANS,
    MOVES,
    REASON_MEANS,
    TERMINAL,
    Move,
    Reason,
    Role,
    Stage,
    State,
    Wait,
    lane_of,
    move,
    moves_of,
)

RECORDED = Path(__file__).with_name("moves.txt")
"""Every move that was ever released, a line each. History holds the numbers: lines are added, never changed."""

Place = tuple[Stage, State]
BEGINNING: Place = (Stage.NONE, State.NONE)


def source(one: Move) -> Place:
    return one.from_stage, one.from_state


def target(one: Move) -> Place:
    return one.to_stage, one.to_state


def line_of(one: Move) -> str:
    return f"{one.number} {one.name} {one.from_stage}/{one.from_state} {one.to_stage}/{one.to_state}"


def reached(start: Iterable[Place], *, backwards: bool = False) -> set[Place]:
    """Return the places that moves lead to from `start`, or from which they lead there."""
    found = set(start)
    while True:
        more = {source(m) for m in MOVES if target(m) in found} if backwards else {target(m) for m in MOVES if source(m) in found}
        if more <= found:
            return found
        found |= more


PLACES = {source(m) for m in MOVES} | {target(m) for m in MOVES}


def test_a_number_names_one_move_for_ever() -> None:
    recorded = RECORDED.read_text(encoding="ascii").splitlines()
    now = {one.number: line_of(one) for one in MOVES}

    changed = [line for line in recorded if now.get(int(line.split()[0])) != line]
    assert changed == [], "history holds these numbers: give what is new a new number"
    new = sorted(set(now.values()) - set(recorded))
    assert new == [], f"add these lines to {RECORDED.name}"


def test_numbers_and_names_are_unique() -> None:
    assert len(BY_NUMBER) == len(MOVES)
    assert len({(m.name, *source(m), *target(m)) for m in MOVES}) == len(MOVES)
    assert len({(m.name, *source(m), m.to_stage) for m in MOVES}) == len(MOVES), "move() could not tell these apart"


def test_every_move_and_reason_says_what_it_means() -> None:
    assert MOVE_MEANS.keys() == {m.name for m in MOVES}
    assert REASON_MEANS.keys() == set(Reason)
    assert CEILINGS.keys() == set(Cause)
    assert all(ceiling >= 1 for ceiling in CEILINGS.values())


def test_everything_begins_at_none_and_nothing_returns_there() -> None:
    assert reached([BEGINNING]) == PLACES
    assert BEGINNING not in {target(m) for m in MOVES}


def test_from_everywhere_an_end_can_be_reached() -> None:
    ends = {place for place in PLACES if place[1] in TERMINAL}
    assert reached(ends, backwards=True) == PLACES


def test_an_end_is_left_only_by_a_person_who_revives_a_dead_letter() -> None:
    leaving = [m for m in MOVES if m.from_state in TERMINAL]
    assert {(m.name, m.from_state) for m in leaving} == {("requeue", State.DEAD)}
    assert {m.from_stage for m in leaving} == set(CLAIMABLE_STAGES)
    assert all(m.roles == {Role.OPERATE} for m in leaving)
    assert State.DEAD not in ARCHIVED


def test_a_lease_opens_by_claim_or_carry_and_by_nothing_else() -> None:
    assert {m.name for m in MOVES if m.opens_lease} == {"claim", "carry"}
    assert all(m.from_state is State.READY and m.from_stage is m.to_stage for m in MOVES if m.name == "claim")


def test_whatever_may_be_claimed_may_be_returned_expired_and_buried() -> None:
    for stage in CLAIMABLE_STAGES:
        leaving = {m.name for m in MOVES if source(m) == (stage, State.LEASED)}
        assert {"retry", "give_back", "expire", "bury"} <= leaving


def test_into_apply_leads_only_a_clearance() -> None:
    into = {m.name for m in MOVES if m.to_stage is Stage.APPLY and m.from_stage is not Stage.APPLY}
    assert into == {"approve", "clear"}
    assert all(m.to_state is State.READY for m in MOVES if m.to_stage is Stage.APPLY and m.from_stage is not Stage.APPLY)


def test_a_lease_is_carried_only_where_work_is_handed_on_and_never_into_apply() -> None:
    carried = {(m.from_stage, m.to_stage) for m in MOVES if m.name == "carry"}
    assert carried == {(m.from_stage, m.to_stage) for m in MOVES if m.name == "hand_on"}
    assert Stage.APPLY not in {there for _, there in carried}


def test_nothing_ends_while_a_call_to_a_target_may_be_in_flight() -> None:
    ending = {m.name for m in MOVES if source(m) == (Stage.APPLY, State.LEASED)}
    assert ending.isdisjoint({"cancel", "supersede", "send_back"})


@pytest.mark.parametrize(
    ("role", "allowed"),
    [
        (Role.REVIEW, {"approve", "reject", "return"}),
        (Role.INTAKE, {"enter", "hold", "shelve", "release", "supersede"}),
        (Role.OPERATE, {"requeue", "cancel", "send_back", "return"}),
        (Role.SWEEP, {"release", "approve", "reject", "return", "lapse", "expire", "bury", "supersede"}),
        (Role.READ, set()),
        (Role.AUDIT, set()),
    ],
)
def test_a_role_records_only_moves_of_its_trade(role: Role, allowed: set[str]) -> None:
    assert {BY_NUMBER[number].name for number in moves_of(role)} <= allowed


def test_who_proposes_neither_approves_nor_applies() -> None:
    done = [BY_NUMBER[number] for number in moves_of(Role.PROPOSE)]
    assert {"approve", "reject", "return", "drift"}.isdisjoint(m.name for m in done)
    assert [m for m in done if m.from_stage is Stage.APPLY] == []


def test_who_applies_neither_proposes_nor_approves() -> None:
    done = [BY_NUMBER[number] for number in moves_of(Role.APPLY)]
    assert {m.from_stage for m in done} == {Stage.APPLY, Stage.ARCHIVE}


def test_every_move_has_somebody_who_may_make_it() -> None:
    assert [m for m in MOVES if not m.roles] == []
    assert {number for role in Role for number in moves_of(role)} == set(BY_NUMBER)


def test_every_wait_is_a_reason_that_can_be_shown() -> None:
    assert {wait.value for wait in Wait} <= {reason.value for reason in Reason}


def test_a_move_is_found_by_name_and_place_and_an_illegal_one_is_not_found() -> None:
    assert target(move("claim", Stage.QA, State.READY)) == (Stage.QA, State.LEASED)
    assert target(move("hand_on", Stage.QA, State.LEASED, Stage.REWORK)) == (Stage.REWORK, State.READY)
    with pytest.raises(KeyError):
        move("claim", Stage.QA, State.LEASED)
    with pytest.raises(KeyError):
        move("cancel", Stage.APPLY, State.LEASED)


def test_lanes_are_named_by_stage_cell_and_applier() -> None:
    assert lane_of(Stage.QA) == "qa"
    assert lane_of(Stage.WORKCELL, cell="issue_review") == "cell.issue_review"
    assert lane_of(Stage.APPLY, applier="github") == "apply.github"
