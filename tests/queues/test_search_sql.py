"""Candidate search in a real database, under forced row security and an owner that is no superuser."""

import json
import secrets
import shutil
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from pipeline.intake.arrivals import revision_order
from queues.embedded import attach_or_start, stop

SQL = Path(__file__).parents[2] / "queues" / "migrations" / "sql"
HERE = UUID("01890000-0000-7000-8000-000000000001")
NEXT_DOOR = UUID("01890000-0000-7000-8000-000000000002")
FLOW = "sweep"

Connection = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    # Short and open to the servers' own user, unlike pytest's directories.
    root = Path(tempfile.mkdtemp(prefix="sf-", dir="/tmp"))
    root.chmod(0o755)
    yield attach_or_start(root / "data").superuser_url()
    stop(root / "data")
    shutil.rmtree(root)


@pytest.fixture(scope="module")
def template(server: str) -> tuple[str, str]:
    """A database with the search in the schema shopfloor: owned by a plain role, row security forced."""
    name = f"search_{secrets.token_hex(4)}"
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute("CREATE ROLE floor_owner NOLOGIN")
        admin.execute("CREATE ROLE floor_reader NOLOGIN")
        admin.execute(f"CREATE DATABASE {name}")
    with psycopg.connect(server, dbname=name) as admin:
        admin.execute("CREATE SCHEMA shopfloor AUTHORIZATION floor_owner")
        admin.execute("SET LOCAL ROLE floor_owner")
        admin.execute("SET LOCAL search_path = shopfloor")
        admin.execute(
            "CREATE FUNCTION workspaces_in_use() RETURNS uuid[] LANGUAGE sql STABLE "
            "RETURN string_to_array(nullif(current_setting('shopfloor.workspace', true), ''), ',')::uuid[]"
        )
        for script in ("0001_subjects.sql", "0001_search.sql"):
            admin.execute((SQL / script).read_bytes())
        for table in ("subjects", "lexicon", "mentions"):
            admin.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
            admin.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
            admin.execute(f"CREATE POLICY owner_all ON {table} TO floor_owner USING (true) WITH CHECK (true)")
        admin.execute("GRANT USAGE ON SCHEMA shopfloor TO floor_reader")
    return server, name


@pytest.fixture
def conn(template: tuple[str, str]) -> Iterator[Connection]:
    """A session of an application role that works for HERE; what it does is rolled back."""
    server, name = template
    with psycopg.connect(server, dbname=name) as session:
        session.execute("SET LOCAL ROLE floor_reader")
        work_for(session, HERE)
        yield session
        session.rollback()


def work_for(conn: Connection, *workspaces: UUID) -> None:
    listed = ",".join(str(workspace) for workspace in workspaces)
    conn.execute("SELECT set_config('shopfloor.workspace', %s, true)", [listed])


def subject(number: int, title: str, body: str = "", **fields: Any) -> dict[str, Any]:
    row = {"key": f"o/r#{number}", "revision": "2026-01-01", "kind": "issue", "state": "open", "title": title}
    return row | {"body": body, "facts": json.dumps({"number": number}), "names": ()} | fields


def index(conn: Connection, *rows: dict[str, Any], workspace: UUID = HERE) -> int:
    columns: list[list[Any]] = [[row[name] for row in rows] for name in ("key", "revision", "kind", "state", "title", "body", "facts")]
    ranks = [revision_order(row["revision"]) for row in rows]
    columns[2:2] = [[rank for rank, _, _ in ranks], [number for _, number, _ in ranks]]
    named = [(row["key"], key) for row in rows for key in row["names"]]
    columns += [[one for one, _ in named], [other for _, other in named]]
    arrays = ", ".join(f"%s::{kind}[]" for kind in ("text", "text", "smallint", "float8", *["text"] * 7))
    found = conn.execute(f"SELECT shopfloor.index_subjects(%s, %s, {arrays})", [workspace, FLOW, *columns]).fetchone()
    conn.execute("SELECT shopfloor.refresh_lexicon(%s, %s)", [workspace, FLOW])
    assert found
    return int(found[0])


def search(
    conn: Connection, *terms: str, kinds: Sequence[str] | None = None, key: str | None = None, limit: int = 20,
    workspace: UUID = HERE,
) -> list[str]:  # fmt: skip
    rows = conn.execute(
        "SELECT key FROM shopfloor.search_subjects(%s, %s, %s::integer[], %s::text[], %s::text[], %s::text[], %s)",
        [workspace, FLOW, [7] * len(terms), [key] * len(terms), list(terms), kinds, limit],
    )
    return [row[0] for row in rows]


def naming(conn: Connection, *keys: str, workspace: UUID = HERE, limit: int = 50) -> list[tuple[str, str]]:
    rows = conn.execute("SELECT asked, key FROM shopfloor.mentions_of(%s, %s, %s::text[], %s)", [workspace, FLOW, list(keys), limit])
    return [(row[0], row[1]) for row in rows]


def fill(conn: Connection, count: int, word: str, start: int = 1000, workspace: UUID = HERE) -> None:
    index(conn, *(subject(start + n, f"{word} number {n}") for n in range(count)), workspace=workspace)


def test_the_subject_that_shares_the_rarest_words_comes_first(conn):
    fill(conn, 100, "decoder")
    index(
        conn,
        subject(1, "Decoder drops the tachyon header"),
        subject(2, "Tachyon beams", "the header is about beams"),
        subject(3, "Unrelated"),
    )
    assert search(conn, "tachyon header lost in decoder") == ["o/r#1", "o/r#2"]


def test_stemming_and_several_terms_of_one_ask_work_together(conn):
    index(conn, subject(1, "Exporting calibrations"), subject(2, "Gauges"), subject(3, "exported gauge"))
    assert search(conn, "exporter", "exports", "gauge")[0] == "o/r#3"


def test_a_row_says_what_matched_and_what_it_is(conn):
    index(
        conn,
        subject(1, "Tachyon header", "B" * 5000, kind="pull_request", state="closed"),
        subject(2, "tachyon header"),
    )
    row = conn.execute(
        "SELECT * FROM shopfloor.search_subjects(%s, %s, '{7}', '{o/r#2}', '{tachyon header beams}', '{pull_request}', 5, 10)",
        [HERE, FLOW],
    ).fetchone()
    assert row is not None
    assert row[:10] == (
        7, "o/r#1", "2026-01-01", "pull_request", "closed", "Tachyon header", "B" * 10, '{"number": 1}', 2, 2,
    )  # fmt: skip
    assert row[10] > 0


def test_a_common_word_finds_nothing(conn):
    fill(conn, 30, "decoder")
    assert search(conn, "decoder") == []
    assert search(conn, "the of and") == []
    assert search(conn, "") == []
    assert search(conn) == []


def test_asker_and_other_kinds_are_left_out_and_the_limit_holds(conn):
    rows = [subject(n, "tachyon header", kind="pull_request" if n % 2 else "issue") for n in range(1, 9)]
    index(conn, *rows)
    found = search(conn, "tachyon header", key="o/r#1", kinds=["pull_request"])
    assert sorted(found) == ["o/r#3", "o/r#5", "o/r#7"]
    assert len(search(conn, "tachyon header", limit=2)) == 2


def test_a_batch_of_asks_is_answered_as_each_alone(conn):
    fill(conn, 50, "decoder")
    index(conn, subject(1, "tachyon header"), subject(2, "broken gauge"), subject(3, "gauge of tachyon"))
    asks = {1: "tachyon header", 2: "gauge", 3: "nothing at all"}
    rows = conn.execute(
        "SELECT ask, key FROM shopfloor.search_subjects(%s, %s, %s::integer[], %s::text[], %s::text[])",
        [HERE, FLOW, list(asks), [None] * 3, list(asks.values())],
    ).fetchall()
    for ask, text in asks.items():
        assert [key for one, key in rows if one == ask] == search(conn, text)


@pytest.mark.parametrize("term", ["a & !b | (", "':*", "tachyon'", "\\", '"; DROP TABLE subjects', "%s $1", "é\u202e😀"])
def test_a_term_is_text_and_never_syntax(conn, term):
    index(conn, subject(1, "tachyon header"), subject(2, "tachyon footer"))
    assert set(search(conn, term, "tachyon")) == {"o/r#1", "o/r#2"}


def test_a_newer_revision_replaces_and_an_older_one_does_not(conn):
    index(conn, subject(1, "tachyon header", revision="2026-02-01", names=["o/r#5"]))
    assert index(conn, subject(1, "gauge", revision="2026-01-01", names=["o/r#6"])) == 0
    assert search(conn, "tachyon") == ["o/r#1"]
    assert naming(conn, "o/r#5", "o/r#6") == [("o/r#5", "o/r#1")]
    assert index(conn, subject(1, "gauge", revision="2026-03-01", names=["o/r#6"])) == 1
    assert (search(conn, "tachyon"), search(conn, "gauge")) == ([], ["o/r#1"])
    assert naming(conn, "o/r#5", "o/r#6") == [("o/r#6", "o/r#1")]


def test_the_newest_of_equal_keys_in_one_batch_wins(conn):
    index(conn, subject(1, "newest", revision="2026-03-01"), subject(1, "older", revision="2026-02-01"))
    assert (search(conn, "newest"), search(conn, "older")) == (["o/r#1"], [])


def test_revisions_that_are_instants_compare_as_instants(conn):
    index(conn, subject(1, "ten", revision="2024-05-01T10:00:00Z"))
    assert index(conn, subject(1, "half past two", revision="2024-05-01T09:30:00-05:00")) == 1
    assert index(conn, subject(1, "a moment later", revision="2024-05-01T14:30:00.5Z")) == 1
    assert index(conn, subject(1, "two", revision="2024-05-01T16:00:00+02:00")) == 0


def test_revisions_that_are_numbers_compare_as_numbers(conn):
    index(conn, subject(1, "nine", revision="9"), subject(2, "ten", revision="10"), subject(2, "two", revision="2"))
    assert search(conn, "ten") == ["o/r#2"]
    assert index(conn, subject(1, "eleven", revision="11")) == 1
    assert index(conn, subject(1, "three", revision="3")) == 0


def test_indexing_the_same_again_changes_nothing(conn):
    rows = [subject(n, f"tachyon {n}", names=["o/r#1"]) for n in range(1, 5)]
    index(conn, *rows)
    before = (search(conn, "tachyon"), naming(conn, "o/r#1"))
    index(conn, *rows)
    assert (search(conn, "tachyon"), naming(conn, "o/r#1")) == before


def test_pull_requests_that_name_a_key_come_first_and_no_subject_names_itself(conn):
    index(
        conn,
        subject(1, "a", names=["o/r#1", "o/r#9"]),
        subject(2, "b", names=["o/r#9", "o/r#9"], kind="pull_request"),
        subject(3, "c", names=["o/r#9", "x/" + "y" * 5000 + "#1"], kind="pull_request", revision="2026-05-01"),
    )
    assert naming(conn, "o/r#9", "o/r#1") == [("o/r#9", "o/r#3"), ("o/r#9", "o/r#2"), ("o/r#9", "o/r#1")]
    assert naming(conn, "o/r#9", limit=1) == [("o/r#9", "o/r#3")]


def test_a_session_of_another_workspace_reads_nothing_and_writes_nothing(conn):
    index(conn, subject(1, "tachyon header", names=["o/r#2"]))
    for others in [(NEXT_DOOR,), ()]:
        work_for(conn, *others)
        assert (search(conn, "tachyon"), naming(conn, "o/r#2")) == ([], [])
        with pytest.raises(psycopg.errors.InsufficientPrivilege), conn.transaction():
            index(conn, subject(2, "planted"))
        with pytest.raises(psycopg.errors.InsufficientPrivilege), conn.transaction():
            conn.execute("SELECT shopfloor.refresh_lexicon(%s, %s)", [HERE, FLOW])


def test_a_session_of_two_workspaces_gets_the_one_that_it_asks_for(conn):
    work_for(conn, NEXT_DOOR, HERE)
    index(conn, subject(1, "tachyon here", names=["o/r#9"]))
    index(conn, subject(2, "tachyon there", names=["o/r#9"]), workspace=NEXT_DOOR)
    assert search(conn, "tachyon") == ["o/r#1"]
    assert search(conn, "tachyon", workspace=NEXT_DOOR) == ["o/r#2"]
    assert naming(conn, "o/r#9", workspace=NEXT_DOOR) == [("o/r#9", "o/r#2")]


def test_the_tables_themselves_are_out_of_reach(conn):
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute("SELECT * FROM shopfloor.subjects")


def test_the_full_text_index_answers_under_forced_row_security(conn):
    work_for(conn, HERE, NEXT_DOOR)
    fill(conn, 300, "tachyon", workspace=NEXT_DOOR)
    fill(conn, 100, "decoder")
    index(conn, subject(1, "tachyon header"))
    scans = """SELECT pg_stat_get_xact_numscans('shopfloor.subjects_words'::regclass),
        pg_stat_get_xact_numscans('shopfloor.subjects'::regclass)"""
    before = conn.execute(scans).fetchone()
    assert search(conn, "tachyon header") == ["o/r#1"]
    after = conn.execute(scans).fetchone()
    assert before is not None
    assert after is not None
    assert after[0] > before[0]
    assert after[1] == before[1], "a sequential scan of the subjects"


def test_batches_that_overlap_at_the_same_time_all_arrive(template):
    server, name = template
    rows = [subject(n, f"tachyon {n}", names=["o/r#1"], revision="2026-01-01") for n in range(60)]
    problems: list[BaseException] = []

    def write(offered: list[dict[str, Any]]) -> None:
        try:
            with psycopg.connect(server, dbname=name) as session:
                work_for(session, NEXT_DOOR)
                index(session, *offered, workspace=NEXT_DOOR)
        except psycopg.Error as problem:
            problems.append(problem)

    threads = [threading.Thread(target=write, args=[part]) for part in (rows[:40], rows[:19:-1], rows[::-1], rows)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert problems == []
    with psycopg.connect(server, dbname=name) as session:
        work_for(session, NEXT_DOOR)
        assert len(naming(session, "o/r#1", workspace=NEXT_DOOR, limit=1000)) == 59
