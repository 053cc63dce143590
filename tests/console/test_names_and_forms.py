"""What every verb that takes names or prints rows has in common: ids from stdin, one form, ids that can be typed back."""

from typing import Any

import pytest
from console import output
from contracts.identity import new_ids
from pipeline.startup.compose import Shop
from queues.database import Connection
from tests.in_process import Road, issue
from tests.item_states import in_the_cells_lane
from tests.reviews import LATER, look, person, propose


@pytest.mark.parametrize("verb", [("why",), ("show",), ("history",)])
def test_reading_verbs_take_ids_from_stdin_as_acting_ones_do(verb: tuple[str, ...], road: Road, admin: Connection, cli: Any) -> None:
    first, second = in_the_cells_lane(road, admin, 2)
    both = cli(*verb, "-", input=f"{first}\n{second}\n")
    assert both.exit_code == 0, both.stderr
    assert len(both.stdout.splitlines()) == sum(len(cli(*verb, str(one)).stdout.splitlines()) for one in (first, second))
    partly = cli(*verb, "-", "--json", input=f"{first}\nnosuch#1\n")
    assert (partly.exit_code, len(partly.stdout.splitlines())) == (7, 1)
    assert "no item, order or subject" in partly.stderr
    nothing = cli(*verb, "-", input="\n")
    assert (nothing.exit_code, nothing.stdout) == (2, "")


def test_other_verbs_that_show_one_thing_take_stdin_too(cli: Any) -> None:
    for verb in (("dead", "show"), ("review", "show"), ("apply", "show"), ("artifact", "show"), ("batch", "show")):
        done = cli(*verb, "-", input="00000000-0000-7000-8000-000000000000\n")
        assert done.exit_code == 3, (verb, done.stderr)


def test_two_forms_at_once_are_refused(cli: Any) -> None:
    for arguments in (("items", "--json", "--csv"), ("batch", "list", "--jsonl", "--csv")):
        done = cli(*arguments)
        assert (done.exit_code, done.stdout) == (2, "")
        assert "are two forms: expected one" in done.stderr


def test_ids_of_one_batch_differ_where_a_narrow_table_cuts_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from datetime import UTC, datetime

    ids = new_ids(200, datetime(2026, 1, 1, tzinfo=UTC))
    monkeypatch.setattr(output, "terminal_width", lambda: 60)
    output.table([{"id": one, "subject": "huggingface/datasets#7206", "reason": "x" * 60} for one in ids], ["id", "subject", "reason"])
    shown = [line.split()[0].rstrip("…") for line in capsys.readouterr().out.splitlines()[1:]]
    assert len(set(shown)) == len(ids)
    assert all(str(one).startswith(part) for one, part in zip(ids, shown, strict=True))


def test_what_sends_back_or_ends_a_proposal_says_why(road: Road, shop: Shop, admin: Connection, cli: Any) -> None:
    [one] = propose(road, 1)
    token = {"SHOPFLOOR_TOKEN": person(shop, "ada", "reviewer")}
    for verb in ("reject", "rework"):
        for reason in ((), ("--reason", ""), ("--reason", "  ")):
            done = cli("review", verb, str(one.id), *reason, env=token)
            assert (done.exit_code, "a decision needs a reason" in done.stderr) == (2, True), done.stderr
    assert look(admin, "SELECT count(*) FROM decisions") == [0]
    assert cli("review", "reject", str(one.id), "--reason", "still broken", env=token).exit_code == 0


def test_an_order_that_has_ended_cannot_be_paused(road: Road, cli: Any) -> None:
    road.take_in([issue(1, state="closed")], as_of=LATER)
    for kind in ("order", "item"):
        done = cli("pause", f"{kind}:acme/widgets#1", "--why", "look")
        assert (done.exit_code, "has ended: a pause would hold nothing" in done.stderr) == (4, True), done.stderr
