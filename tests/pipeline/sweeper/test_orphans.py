"""What a crash leaves in the store goes after its grace; what a row names, or somebody stored again, stays."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from psycopg.errors import InsufficientPrivilege
from artifacts.blobs import BlobStore
from artifacts.orphans import GRACE_SECONDS, Blob, delete_blob, names_in_use, remove_half_written, walk_blobs
from contracts.errors import Unavailable
from contracts.lifecycle import Role
from pipeline.startup.compose import Shop
from pipeline.sweeper.orphaned_blobs import Collector, shared_with
from queues.database import Connection
from tests.in_process import Road
from tests.reviews import look, propose

ORPHAN = b"what a worker stored and did not live to name"


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


def age(path: Path, seconds: float = GRACE_SECONDS + 60) -> Path:
    os.utime(path, (time.time() - seconds,) * 2)
    return path


def seen(store: BlobStore) -> Blob:
    [blob] = walk_blobs(store)
    return blob


def test_an_orphan_goes_after_its_grace_in_the_second_round_that_finds_it(store: BlobStore, connect: Any) -> None:
    path = store.path(store.put(ORPHAN))
    conn, collector = connect(Role.SWEEP), Collector(store)
    for _ in range(3):
        assert collector.round(conn) == {"blobs": 0, "half_written": 0}
    age(path)
    assert collector.round(conn)["blobs"] == 0
    assert path.exists()
    assert collector.round(conn)["blobs"] == 1
    assert list(path.parent.iterdir()) == []


def test_an_orphan_that_is_stored_again_between_two_rounds_starts_anew(store: BlobStore, connect: Any) -> None:
    path = age(store.path(store.put(ORPHAN)))
    conn, collector = connect(Role.SWEEP), Collector(store)
    collector.round(conn)
    store.put(ORPHAN)
    assert collector.round(conn)["blobs"] == 0
    age(path)
    assert [collector.round(conn)["blobs"] for _ in range(2)] == [0, 1]


def test_what_any_row_of_any_workspace_names_stays(road: Road, admin: Connection, store: BlobStore, connect: Any) -> None:
    propose(road, 1)
    bodies = [bytes(data) for data in look(admin, "SELECT bytes FROM bodies")]
    for data in bodies:
        age(store.path(store.put(data)))
    names = [blob.name for blob in walk_blobs(store)]
    conn, collector = connect(Role.SWEEP), Collector(store)
    assert [collector.round(conn)["blobs"] for _ in range(2)] == [0, 0]
    assert [blob.name for blob in walk_blobs(store)] == names

    # Turned away before the shelf, a value has no name but the one in its wrapper, be that a row or a file.
    [wrapper] = look(admin, "SELECT output_sha256 FROM attempts WHERE stage = 'workcell'")
    value = bytes.fromhex(json.loads(store.get(wrapper))["value"])
    admin.execute("SET session_replication_role = replica")
    admin.execute("DELETE FROM artifacts")
    assert names_in_use(conn, store, [value]) == {value}
    admin.execute("DELETE FROM bodies")
    assert names_in_use(conn, store, [value]) == {value}
    assert [collector.round(conn)["blobs"] for _ in range(2)] == [0, 1], "the envelope alone was named by its artifact"
    store.path(wrapper).write_bytes(b"damaged")
    with pytest.raises(Unavailable):
        names_in_use(conn, store, [value])


def test_a_blob_that_is_stored_again_after_the_database_was_asked_is_put_back(store: BlobStore) -> None:
    path = age(store.path(store.put(ORPHAN)))
    before = seen(store)
    store.put(ORPHAN)
    young = path.stat().st_mtime_ns
    assert not delete_blob(before)
    assert store.get(before.name) == ORPHAN
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    assert path.stat().st_mtime_ns == young
    assert delete_blob(seen(store))
    assert not delete_blob(before), "another sweeper was first"


def test_what_a_sweeper_died_with_in_its_hands_is_put_back_but_never_over_a_younger_file(store: BlobStore) -> None:
    path = age(store.path(store.put(ORPHAN)))
    aside = path.rename(path.with_name(f".{path.name}.leaving.00ff"))
    assert remove_half_written(store) == 0
    assert path.exists()
    assert not aside.exists()
    path.rename(aside)
    store.put(ORPHAN)
    young = path.stat().st_mtime_ns
    remove_half_written(store)
    assert path.stat().st_mtime_ns == young
    assert not aside.exists()


def test_half_written_files_go_and_what_is_not_ours_stays(store: BlobStore, connect: Any, tmp_path: Path) -> None:
    name = store.put(ORPHAN)
    folder = store.path(name).parent
    half, fresh, foreign = (folder / text for text in (f".{name.hex()}.12ab", f".{name.hex()}.34cd", "notes.txt"))
    for path in (half, fresh, foreign):
        path.write_bytes(b"ha")
    age(half)
    age(foreign)
    link = folder / ("0" * 64)
    link.symlink_to(tmp_path / "elsewhere")
    assert Collector(store).round(connect(Role.SWEEP)) == {"blobs": 0, "half_written": 1}
    assert {path.name for path in folder.iterdir()} == {name.hex(), fresh.name, foreign.name, link.name}


def test_the_sweeper_learns_which_names_are_used_and_no_more(connect: Any) -> None:
    with pytest.raises(InsufficientPrivilege):
        connect(Role.SWEEP).execute("SELECT FROM bodies")
    for role in (Role.INTAKE, Role.PROPOSE, Role.REVIEW, Role.APPLY, Role.OPERATE, Role.READ):
        with pytest.raises(InsufficientPrivilege):
            connect(role).execute("SELECT named_bytes('{}')")


def test_a_folder_that_another_database_uses_is_left_alone(shop: Shop, connect: Any) -> None:
    assert "keeps its blobs in the same folder" in shared_with(shop, connect(Role.SWEEP))


def test_what_cells_wrote_keeps_nothing_from_being_collected(road: Road, admin: Connection, store: BlobStore, connect: Any) -> None:
    propose(road, 1)
    [(item, wrapper)] = look(admin, "SELECT item_id, output_sha256 FROM attempts WHERE stage = 'workcell'")
    admin.execute("SET session_replication_role = replica")
    for data in (b'{"is":"draft","note":"\\u0000 and \\ud800","value":"' + b"ab" * 32 + b'"}', b'\xff\xfe"value":"' + b"ab" * 32 + b'"'):
        admin.execute("UPDATE bodies SET bytes = %s, sha256 = sha256(%s) WHERE item_id = %s AND sha256 = %s", [data, data, item, wrapper])
        admin.execute("UPDATE attempts SET output_sha256 = sha256(%s) WHERE item_id = %s AND output_sha256 = %s", [data, item, wrapper])
        [wrapper] = look(admin, "SELECT output_sha256 FROM attempts WHERE stage = 'workcell'")
        value, other = bytes.fromhex("ab" * 32), bytes(32)
        assert names_in_use(connect(Role.SWEEP), store, [value, other]) == {value}
