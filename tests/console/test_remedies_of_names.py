"""What people are told to type about tokens, ids, files and settings does what it promises: read from the screen, and typed in."""

from pipeline.startup.compose import Shop
from queues.database import Connection
from tests.in_process import Road, issue
from tests.intake_processes import as_lines
from tests.reader import Reader, filling, told, told_one
from tests.reviews import look, person, propose


def test_a_bad_token_is_replaced_by_logging_in(shop: Shop, reader: Reader) -> None:
    token = person(shop, "ada", "reviewer")
    refused = reader.types("./shopfloor whoami", SHOPFLOOR_TOKEN="shf_bad")
    assert refused.exit_code == 5
    assert "unset SHOPFLOOR_TOKEN" in refused.stderr
    over = reader.does(told_one(refused, "login"), input=token + "\n", SHOPFLOOR_TOKEN="shf_bad")
    assert "SHOPFLOOR_TOKEN is set" in over.stderr
    assert reader.does("./shopfloor whoami").stdout.startswith("ada in workspace main")
    (reader.folder / "ada.token").write_text(token)
    empty = reader.types("./shopfloor login")
    reader.does(filling(told_one(empty, "login"), FILE="ada.token"))


def test_who_lacks_a_role_is_told_what_an_admin_types(shop: Shop, road: Road, reader: Reader) -> None:
    road.take_in([issue(1)])
    for name, roles, line in (("o'hara", ("reader",), "./shopfloor cancel acme/widgets#1"), ("al b", (), "./shopfloor status")):
        token = person(shop, name, *roles)
        refused = reader.types(line, SHOPFLOOR_TOKEN=token)
        assert refused.exit_code == 5, refused.stderr
        remedy = told_one(refused, "token new")
        made = reader.does(filling(remedy, NAME=f'"{name}"') if "NAME" in remedy else remedy)
        assert told_one(made, "login")
        reader.does(line, SHOPFLOOR_TOKEN=token)
    gone = reader.does("./shopfloor token revoke --actor 'al b'")
    reader.does(told_one(gone, "token new"))


def test_ids_that_are_shared_unknown_or_of_another_version_lead_to_a_list(
    road: Road, shop: Shop, admin: Connection, reader: Reader
) -> None:
    first, *_ = propose(road, 2)
    proposal, work = str(first.id), str(first.item_id)
    road.take_in([issue(7)])
    batch = str(look(admin, "SELECT id FROM batches ORDER BY id")[0])
    for line, whole in (
        ("why {}", work), ("requeue {} --dry-run", work), ("batch show {}", batch), ("review show {}", proposal), ("show {}", work),
    ):  # fmt: skip
        shared = reader.types(f"./shopfloor {line.format(whole[:8])}")
        assert (shared.exit_code, "expected one" in shared.stderr) == (2, True), shared.stderr
        [listing] = told(shared)
        assert whole in reader.does(listing).stdout
    for line, seen in (
        ("why nosuch#1", work), ("batch show 00000000", batch), ("review show nosuch", proposal), ("apply show nosuch", ""),
        ("items --flow nosuch", "issue-sweep"), ("items --lane cell.nosuch", "LANE"), ("contract show nosuch", "issue_review"),
        ("contract show issue_review@9.9.9", "issue_review"), ("floor show 00000000", "issue-sweep"), ("pause pod:nosuch --why x", "maintainers"),
        ("pause cell:nosuch --why x", "issue_review"), ("token revoke 00000000", "root"), ("token revoke --actor nosuch", "root"),
    ):  # fmt: skip
        unknown = reader.types(f"./shopfloor {line}")
        assert unknown.exit_code == 3, (line, unknown.stderr)
        assert seen in "".join(reader.does(remedy).stdout for remedy in told(unknown)), line


def test_a_file_that_is_missing_or_no_file_says_what_to_do(reader: Reader) -> None:
    missing = reader.types("./shopfloor intake nope.jsonl --flow issue-sweep")
    assert (missing.exit_code, f"looked in {reader.folder}" in missing.stderr) == (2, True), missing.stderr
    for verb in ("check", "apply"):
        refused = reader.types(f"./shopfloor floor {verb} nope.yaml")
        assert (refused.exit_code, "SHOPFLOOR_FLOOR" in refused.stderr) == (2, False), refused.stderr
        reader.does(told_one(refused, "floor show"))
        reader.does(f"./shopfloor floor {verb} floor.yaml")
    named = reader.types("./shopfloor floor check", SHOPFLOOR_FLOOR="nope.yaml")
    assert (named.exit_code, "SHOPFLOOR_FLOOR names it" in named.stderr) == (2, True), named.stderr
    reader.does("./shopfloor floor check", SHOPFLOOR_FLOOR="floor.yaml")
    (reader.folder / "rows.jsonl").write_bytes(as_lines([issue(1)]))
    reader.does("mkfifo 'a pipe'")
    pipe = reader.types("./shopfloor intake 'a pipe' --flow issue-sweep")
    line = filling(told_one(pipe, "intake"), FLOW="issue-sweep")
    assert "1 taken in" in reader.does(f"cat rows.jsonl > 'a pipe' & {line}").stdout


def test_settings_that_cannot_be_used_are_unset_and_looked_up(reader: Reader) -> None:
    for name, value, seen in (
        ("SHOPFLOOR_" + 30 * "Q", "1", "SHOPFLOOR_WORKERS"), ("SHOPFLOOR_WORKERS", "many", "SHOPFLOOR_WORKERS"),
        ("SHOPFLOOR_FAIL", "nope:kill", "intake.complete"),
    ):  # fmt: skip
        refused = reader.types("./shopfloor status", **{name: value})
        assert refused.exit_code == 2
        hint = refused.stderr.splitlines()[-1].partition("unset ")[2]
        assert seen in reader.does(f"unset {hint}", **{name: value}).stdout
