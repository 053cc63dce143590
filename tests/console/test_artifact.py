"""artifact: exact bytes, and the proof that they are what they were."""

import hashlib
from typing import Any
from uuid import UUID

import pytest
from artifacts.verify import find_artifact, read_artifact, verify
from contracts.errors import BadInput, NotFound, Unavailable
from contracts.lifecycle import Role
from queues.database import Connection, transaction
from tests.in_process import Road, issue


@pytest.fixture
def artifact(road: Road, connect: Any, workspace: UUID) -> dict[str, Any]:
    """What the cell gave for one issue."""
    road.take_in([issue(3)])
    road.run()
    conn = connect(Role.READ)
    with transaction(conn, workspace):
        row = conn.execute("SELECT sha256 FROM artifacts").fetchone()
        assert row is not None
        return find_artifact(conn, row[0].hex())


def damage(admin: Connection, artifact: dict[str, Any]) -> None:
    with admin.transaction():
        admin.execute("SET LOCAL session_replication_role = replica")
        admin.execute("UPDATE shopfloor.bodies SET bytes = bytes || 'x' WHERE sha256 = %s", [artifact["sha256"]])


def test_it_is_found_by_hash_by_the_beginning_of_it_and_by_id(artifact: dict[str, Any], connect: Any, workspace: UUID) -> None:
    conn = connect(Role.READ)
    with transaction(conn, workspace):
        for name in (artifact["sha256"].hex()[:8], str(artifact["id"]), artifact["sha256"].hex().upper()):
            assert find_artifact(conn, name)["id"] == artifact["id"]
            assert find_artifact(conn, name, artifact["item_id"])["id"] == artifact["id"]
        for wrong in ("abc", "zzzzzzzzzz", "x" * 36, ""):
            with pytest.raises(BadInput):
                find_artifact(conn, wrong)
        with pytest.raises(NotFound):
            find_artifact(conn, "00" * 32)


def test_raw_is_byte_for_byte_what_was_hashed(artifact: dict[str, Any], road: Road, cli: Any) -> None:
    raw = cli("artifact", "show", artifact["sha256"].hex()[:12], "--raw")
    assert hashlib.sha256(raw.stdout.encode()).digest() == artifact["sha256"]
    shown = cli("artifact", "show", str(artifact["id"]), "--item", "acme/widgets#3")
    assert '"finding": "nothing_found"' in shown.stdout
    assert shown.stdout.startswith("issue_decision@1  ")
    value = cli("artifact", "show", str(artifact["id"]), "--json").json
    assert value["value"]["finding"] == "nothing_found"
    assert value["artifact"]["subject"] == "acme/widgets#3"


def test_damaged_bytes_are_never_shown_and_verify_exits_1(
    artifact: dict[str, Any], admin: Connection, connect: Any, workspace: UUID, road: Road, cli: Any
) -> None:
    assert cli("artifact", "verify").stdout == "1 sound, 0 damaged, 0 erased\n"
    damage(admin, artifact)
    conn = connect(Role.READ)
    with transaction(conn, workspace), pytest.raises(Unavailable, match="does not match its name"):
        read_artifact(conn, road.shop.store, artifact)
    seen = cli("artifact", "verify", "--json")
    assert (seen.exit_code, seen.json["damaged"], seen.json["sound"]) == (1, 1, 0)
    assert seen.json["first_damaged"][0]["id"] == str(artifact["id"])
    one = cli("artifact", "verify", artifact["sha256"].hex())
    assert one.exit_code == 1
    assert "do not match its name" in one.stdout
    assert cli("artifact", "show", str(artifact["id"])).exit_code == 6


def test_large_artifacts_are_verified_on_disk(
    artifact: dict[str, Any], admin: Connection, connect: Any, workspace: UUID, road: Road
) -> None:
    with transaction(admin, workspace):
        row = admin.execute("SELECT bytes FROM bodies WHERE sha256 = %s", [artifact["sha256"]]).fetchone()
        assert row is not None
        admin.execute("DELETE FROM bodies WHERE sha256 = %s", [artifact["sha256"]])
    conn, store = connect(Role.READ), road.shop.store

    def problem() -> str:
        return next(check.problem for check in verify(conn, store, workspace, item_id=artifact["item_id"]))

    assert problem() == "its bytes are in neither the database nor the store"
    store.put(row[0])
    assert problem() == ""
    store.path(artifact["sha256"]).write_bytes(b"other")
    assert "does not match its name" in problem()
    store.path(artifact["sha256"]).unlink()


def test_verify_of_another_item_does_not_see_the_damage(
    artifact: dict[str, Any], admin: Connection, connect: Any, workspace: UUID, road: Road
) -> None:
    road.take_in([issue(4)])
    road.run()
    damage(admin, artifact)
    checks = list(verify(connect(Role.READ), road.shop.store, workspace))
    assert sorted(bool(check.problem) for check in checks) == [False, True]
