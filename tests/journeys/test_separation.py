"""As root, each role of the crew is a user of its own: what that user can reach, and what it cannot."""

import contextlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from artifacts.blobs import BlobStore, sha256_of
from tests.in_process import Result
from tests.waiting import wait_until
from workcells.appliers import TargetUnavailable
from workcells.appliers.tracker_files import locked

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or sys.platform != "linux", reason="only root on Linux can give its processes to other users"
)

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "console" / "samples" / "tracker.jsonl"
PROPOSE, APPLY, SWEEP = 60801, 60802, 60803
SHARED = 60800
URL = "SHOPFLOOR_DATABASE_URL"


class House:
    """A data folder where every user may pass, as /var/lib/shopfloor is, and commands on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.tracker = self.data / "tracker" / "demo"

    def run(self, *arguments: str, umask: int = 0o022, **settings: str) -> Result:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SHOPFLOOR_")}
        environment |= {"SHOPFLOOR_DATA_DIR": str(self.data), "PYTHONPATH": str(ROOT), "SHOPFLOOR_WORKERS": "1"}
        environment["SHOPFLOOR_WORKSPACE"] = "demo"
        environment |= {f"SHOPFLOOR_{name.upper()}": value for name, value in settings.items()}
        done = subprocess.run(
            [sys.executable, "-m", "console", *arguments],
            capture_output=True, text=True, env=environment, timeout=180, check=False, umask=umask, cwd="/",
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return Result(done.returncode, done.stdout, done.stderr)

    def crew(self) -> psutil.Process:
        said = json.loads((self.data / "run" / "crew-shopfloor.json").read_text())
        return psutil.Process(said["pid"])

    def posts(self) -> dict[str, psutil.Process]:
        """Return the processes of the crew by what they do, once each has become what it is to be."""

        def found() -> dict[str, psutil.Process]:
            lines = {}
            for process in self.crew().children():
                with contextlib.suppress(psutil.Error):  # one that has just fallen
                    lines["".join(process.cmdline()[-1:])] = process
            return {name: process for name, process in lines.items() if name in ("propose", "apply", "sweeper")}

        wait_until(lambda: len(found()) == 3)
        return found()

    def users(self) -> dict[str, int]:
        return {name: process.uids().real for name, process in self.posts().items()}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A factory that an older release ran as root with a narrow umask, and that has now done all its work separated."""
    folder = Path(tempfile.mkdtemp(prefix="shopfloor-separation-"))
    folder.chmod(0o755)
    here = House(folder)
    rows = [json.loads(line) for line in SAMPLE.read_text(encoding="utf-8").splitlines()]
    longest = next(row for row in rows if row["state"] == "open")
    longest["body"] += "\n" + "It goes on. " * 10_000
    export = tmp_path_factory.mktemp("export") / "export.jsonl"  # in a folder of root's own
    export.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    try:
        here.run("demo", "--input", str(export), umask=0o077, crew_ids="0")
        assert set(here.users().values()) == {0}
        assert "SHOPFLOOR_CREW_IDS is 0" in here.run("status").stdout
        here.run("down", "--workers-only")
        root_has_applied(here.tracker)
        assert here.run("up", "--json").json["unseparated"] == []
        done = here.run("demo", "--complete", "--json", "--input", str(export)).json
        assert done["proposals"].keys() == {"applied"}, done
        yield here
    finally:
        here.run("demo", "--reset", "--yes")
        shutil.rmtree(folder)


def root_has_applied(tracker: Path) -> None:
    """Leave what an apply worker of root's leaves when it is killed: its locks, and a version that it was writing."""
    for home in tracker.iterdir():
        (home / ".locks").mkdir(mode=0o700)
        for issue in home.glob("*.json"):
            os.close(os.open(home / ".locks" / issue.stem, os.O_CREAT, 0o600))
            os.close(os.open(home / f".{issue.name}.new", os.O_CREAT, 0o600))


def as_user(uid: int, code: str, *arguments: object) -> str:
    """Return what a program says that runs as one of the crew's users."""
    done = subprocess.run(
        ["/usr/bin/env", "sh", "-c", code, "sh", *map(str, arguments)],
        user=uid, group=SHARED, extra_groups=(), capture_output=True, text=True, check=False, cwd="/",
    )  # fmt: skip
    return done.stdout + done.stderr


def test_each_role_runs_as_a_user_of_its_own_with_no_rights_left(house: House) -> None:
    assert house.users() == {"propose": PROPOSE, "apply": APPLY, "sweeper": SWEEP}
    for process in house.posts().values():
        status = Path(f"/proc/{process.pid}/status").read_text()
        lines = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert len(set(lines["Uid"].split())) == len(set(lines["Gid"].split())) == 1
        assert lines["Groups"].split() == []
        assert {lines[name] for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == {"0" * 16}


def test_the_proposing_user_reads_neither_secrets_nor_the_process_that_applies(house: House) -> None:
    apply = house.posts()["apply"].pid
    closed = [
        house.data / "secrets" / "shopfloor_apply", house.data / "secrets" / "shopfloor_admin", f"/proc/{apply}/environ",
        f"/proc/{apply}/mem", f"/proc/{house.crew().pid}/environ", house.data / "postgres" / "PG_VERSION",
    ]  # fmt: skip
    for path in closed:
        assert "ermission denied" in as_user(PROPOSE, 'cat "$1"', path), path
    assert "ermission denied" in as_user(APPLY, 'cat "$1"', f"/proc/{apply}/environ"), "it is non-dumpable still"
    assert "not permitted" in as_user(PROPOSE, 'kill -0 "$1"', apply)


def test_the_proposing_user_writes_neither_the_tracker_nor_new_folders_of_the_store(house: House) -> None:
    for folder in (house.tracker, next(house.tracker.glob("*__*")), house.data / "blobs", house.data / "log", house.data):
        assert "ermission denied" in as_user(PROPOSE, 'touch "$1/planted"', folder), folder


def test_each_post_is_handed_the_address_of_its_own_role_alone(house: House) -> None:
    logins = {"propose": "PROPOSE", "apply": "APPLY", "sweeper": "SWEEP"}
    for name, process in house.posts().items():
        environment = dict(line.split("=", 1) for line in Path(f"/proc/{process.pid}/environ").read_text().split("\0") if line)
        assert [one for one in environment if one.startswith(URL)] == [f"{URL}_{logins[name]}"]


def test_the_sockets_are_open_to_every_user_and_ask_for_the_password(house: House) -> None:
    run = house.data / "run"
    assert as_user(PROPOSE, 'test -w "$1/valkey.sock" && test -w "$1/.s.PGSQL.5432" && echo open', run) == "open\n"
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(f"postgresql://shopfloor_apply@/shopfloor?host={run}").close()


def test_what_was_approved_was_applied_by_the_applying_user(house: House) -> None:
    applied = [path for path in house.tracker.glob("*/*.json") if json.loads(path.read_text())["applied"]]
    assert len(applied) >= 20
    assert {path.stat().st_uid for path in applied} == {APPLY}
    assert house.run("doctor", "--strict")


def test_what_root_stored_before_can_be_read_made_young_and_put_back_by_every_role(house: House) -> None:
    blobs = [path for path in (house.data / "blobs").glob("*/*") if path.is_file()]
    assert blobs
    for path in blobs:
        assert (path.stat().st_gid, stat.S_IMODE(path.stat().st_mode)) == (SHARED, 0o660)
        assert as_user(APPLY, 'wc -c < "$1"', path).strip() == str(path.stat().st_size)
        assert as_user(PROPOSE, 'touch -c "$1"', path) == ""
        assert as_user(SWEEP, 'mv "$1" "$1.aside" && ln "$1.aside" "$1" && rm "$1.aside"', path) == ""
        assert path.stat().st_uid == 0


def test_a_post_that_falls_comes_back_as_the_same_user(house: House) -> None:
    fallen = house.posts()["apply"]
    fallen.kill()
    # In between there is none, and while it takes on its user it is not known yet.
    wait_until(lambda: (risen := house.posts().get("apply")) is not None and risen.pid != fallen.pid)
    assert house.users()["apply"] == APPLY


def test_the_posts_end_with_the_crew(house: House) -> None:
    posts = house.posts().values()
    wait_until(lambda: all(process.num_threads() > 1 for process in posts if process.cmdline()[-1] != "sweeper"))
    house.crew().send_signal(signal.SIGKILL)
    gone, left = psutil.wait_procs(list(posts), timeout=40)
    assert (len(gone), left) == (3, [])


def crew_with(house: House, **settings: str) -> tuple[dict[str, int], str]:
    """Return as whom the posts of a new crew run, and what it says is not separated."""
    house.run("down", "--workers-only")
    up = house.run("up", **settings)
    said = [line for line in up.stdout.splitlines() if line.startswith("not separated: ")]
    assert len(said) == 1, up.stdout
    assert (
        said[0] in (house.data / "log" / "crew.log").read_text()
        or said[0].partition(": ")[2] in (house.data / "log" / "crew.log").read_text()
    )
    assert said[0] in house.run("status").stdout.replace("  crew     ", "")
    return house.users(), said[0]


def test_numbers_that_somebody_has_are_not_taken(house: House) -> None:
    users, said = crew_with(house, crew_ids="65531")
    assert set(users.values()) == {0}
    assert "user 65534 is nobody" in said
    assert "set SHOPFLOOR_CREW_IDS" in said


def test_a_tracker_of_somebody_else_is_left_alone_and_only_apply_stays_root(house: House) -> None:
    theirs = house.folder / "theirs"
    theirs.mkdir()
    os.chown(theirs, 12345, 12345)
    users, said = crew_with(house, tracker_dir=str(theirs))
    assert users == {"propose": PROPOSE, "apply": 0, "sweeper": SWEEP}
    assert said.endswith(f"{theirs} belongs to user 12345; chown -R {APPLY}:{SHARED} {theirs}")
    assert theirs.stat().st_uid == 12345


def test_a_data_folder_that_nobody_else_may_enter_is_named_with_the_remedy(cli: Any, shop: Any) -> None:
    assert not shop.data_dir.stat().st_mode & stat.S_IXOTH
    try:
        said = cli("up", "--json", env={"SHOPFLOOR_WORKERS": "1"}).json["unseparated"]
        assert [str(shop.data_dir) in line for line in said] == [True]
    finally:
        cli("down", "--workers-only")


def test_what_root_stores_now_follows_no_link_and_is_shared_whatever_its_umask(house: House) -> None:
    data, target = b"x" * 100_000, house.folder / "target"
    store = BlobStore(house.data / "blobs")
    path = store.path(sha256_of(data))
    as_user(PROPOSE, 'ln -s "$1" "$2"', target, path)
    assert path.is_symlink()
    before = os.umask(0o077)
    try:
        store.put(data)
    finally:
        os.umask(before)
    assert not target.exists()
    assert (path.lstat().st_gid, path.lstat().st_mode) == (SHARED, stat.S_IFREG | 0o660)
    path.unlink()


def test_a_lock_that_root_makes_meanwhile_holds_for_who_applies(house: House) -> None:
    issue = next(house.tracker.glob("*/*.json"))
    lock = issue.parent / ".locks" / issue.stem
    lock.unlink(missing_ok=True)
    lock.touch(0o644)
    os.seteuid(APPLY)
    try:
        with (
            locked(issue, wait_seconds=0),
            pytest.raises(TargetUnavailable, match="locked by somebody else"),
            locked(issue, wait_seconds=0),
        ):
            pass
    finally:
        os.seteuid(0)
