"""./shopfloor makes its environment once, wherever it is called from, and says what is in the way."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.waiting import wait_until

SOURCE = Path(__file__).parents[1]
ENTRY = """\
import os, sys
print("cwd", os.getcwd())
print("argv", *sys.argv[1:])
print("python", sys.executable)
import queues
print("queues", queues.__file__)
"""
PYTHON = Path(sys.executable).resolve()


class Checkout:
    """A checkout of the launcher with empty locks, so that nothing is fetched, and an uv that keeps a diary."""

    def __init__(self, root: Path) -> None:
        self.root, self.diary, self.tools = root / "check out", root / "diary", root / "tools"
        for folder in (self.root, self.tools, self.root / "console", self.root / "queues"):
            folder.mkdir()
        shutil.copy(SOURCE / "shopfloor", self.root)
        for lock in ("requirements.lock", "requirements-test.lock"):
            (self.root / lock).write_text("")
        (self.root / "console/__main__.py").write_text(ENTRY)
        (self.root / "queues/__init__.py").write_text("")
        self.tool("python3", f'exec "{PYTHON}" "$@"')
        self.tool("uv", f'echo "$@" >> "{self.diary}"')

    @property
    def launcher(self) -> Path:
        return self.root / "shopfloor"

    def tool(self, name: str, body: str) -> None:
        (self.tools / name).write_text(f"#!/bin/sh\n{body}\n")
        (self.tools / name).chmod(0o755)

    def start(self, *words: str | Path, **settings: str) -> subprocess.Popen[str]:
        environment = {"PATH": f"{self.tools}:/usr/bin:/bin", "HOME": str(self.root)} | settings
        return subprocess.Popen(
            [str(word) for word in words or [self.launcher]],
            env=environment,
            cwd=settings.get("PWD", "/"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def call(self, *words: str | Path, **settings: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*words, **settings)
        out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def works(self, *words: str | Path, **settings: str) -> bool:
        done = self.call(*words, **settings)
        assert done.returncode == 0, done.stderr
        return f"queues {self.root}/queues/__init__.py" in done.stdout.splitlines()

    def installs(self) -> list[str]:
        return self.diary.read_text().splitlines() if self.diary.exists() else []


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_the_first_call_installs_and_the_next_ones_only_run(checkout: Checkout) -> None:
    first = checkout.call(checkout.launcher, "status", "--json", "two words")
    assert first.stderr == "installing shopfloor's libraries (once)…\n"
    assert "argv status --json two words" in first.stdout
    assert f"python {checkout.root}/.venv/bin/python" in first.stdout
    assert "--require-hashes" in checkout.installs()[0]

    second = checkout.call(checkout.launcher)
    assert second.stderr == ""
    assert len(checkout.installs()) == 1
    assert sorted(path.name for path in checkout.root.iterdir() if path.name.startswith(".")) == [".venv"]
    assert not list(checkout.root.glob("*.pyc"))


def test_it_runs_from_anywhere_through_links_and_past_folders_of_the_same_name(checkout: Checkout) -> None:
    trap = checkout.root.parent / "trap"
    (trap / "queues").mkdir(parents=True)
    (trap / "queues/__init__.py").write_text("raise SystemExit('the wrong queues')")
    (trap / "one").symlink_to(Path("two"))
    (trap / "two").symlink_to(checkout.launcher)
    assert checkout.works(trap / "one", PWD=str(trap))
    assert checkout.works("./shopfloor", PWD=str(checkout.root))
    assert checkout.works("sh", "shopfloor", PWD=str(checkout.root))
    assert checkout.works(PYTHON, checkout.launcher, PWD=str(trap), PYTHONPATH=str(trap))
    assert checkout.works("one", PATH=f"{trap}:{checkout.tools}:/usr/bin:/bin", PWD=str(trap))
    assert len(checkout.installs()) == 1
    assert f"cwd {trap}" in checkout.call(trap / "one", PWD=str(trap)).stdout


def test_a_changed_lock_is_installed_into_the_same_environment(checkout: Checkout) -> None:
    assert checkout.works()
    (checkout.root / ".venv" / "kept").touch()
    os.utime(checkout.root / "requirements.lock", (1, 1))
    assert checkout.works()
    assert len(checkout.installs()) == 1, "its bytes did not change"
    (checkout.root / "requirements.lock").write_text("# changed\n")
    assert checkout.works()
    assert len(checkout.installs()) == 2
    assert (checkout.root / ".venv" / "kept").exists()


def test_an_environment_of_another_python_is_made_anew(checkout: Checkout) -> None:
    assert checkout.works()
    stamp = checkout.root / ".venv/shopfloor-run.stamp"
    minor = f" {sys.version_info.major}.{sys.version_info.minor} "
    stamp.write_text(stamp.read_text().replace(minor, " 3.10 "))
    (checkout.root / ".venv" / "old").touch()
    assert checkout.works()
    assert not (checkout.root / ".venv" / "old").exists()
    assert minor in stamp.read_text()


def test_an_environment_whose_python_is_gone_is_made_anew(checkout: Checkout) -> None:
    assert checkout.works()
    (checkout.root / ".venv/bin/python").unlink()
    (checkout.root / ".venv/bin/python").symlink_to("/nowhere/python3")
    assert checkout.works()
    assert len(checkout.installs()) == 2


def test_a_moved_checkout_finds_itself_again(checkout: Checkout) -> None:
    assert checkout.works()
    checkout.root = checkout.root.rename(checkout.root.parent / "moved")
    assert checkout.works()


def test_an_installation_that_was_killed_is_taken_up_again(checkout: Checkout) -> None:
    checkout.tool("uv", f'echo begun >> "{checkout.diary}"; exec sleep 60')
    hanging = checkout.start()
    wait_until(checkout.installs)
    hanging.kill()
    hanging.communicate()
    assert (checkout.root / ".venv/shopfloor-making").exists()
    (checkout.root / ".venv" / "half").touch()
    checkout.tool("uv", f'echo "$@" >> "{checkout.diary}"')
    assert checkout.works()
    assert not (checkout.root / ".venv" / "half").exists()
    assert not (checkout.root / ".venv/shopfloor-making").exists()


def test_two_first_calls_at_once_install_once(checkout: Checkout) -> None:
    gate = checkout.root / "gate"
    checkout.tool("uv", f'echo "$@" >> "{checkout.diary}"; while [ ! -e "{gate}" ]; do sleep 0.02; done')
    first = checkout.start()
    wait_until(checkout.installs)
    second = checkout.start()
    assert second.stderr is not None
    assert "waiting for it" in second.stderr.readline()
    gate.touch()
    for process in (first, second):
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert "argv" in out
    assert len(checkout.installs()) == 1


def test_without_uv_pip_installs_and_a_failure_shows_why_and_is_tried_again(checkout: Checkout) -> None:
    (checkout.tools / "uv").unlink()
    assert checkout.works()
    assert list((checkout.root / ".venv").glob("lib/python*/site-packages/pip"))

    (checkout.root / "requirements.lock").write_text("shopfloor-is-not-there==1 --hash=sha256:" + "0" * 64 + "\n")
    done = checkout.call(PIP_NO_INDEX="1", PIP_CONFIG_FILE="/dev/null")
    assert done.returncode == 1
    assert "is there a network" in done.stderr
    assert "shopfloor-is-not-there" in done.stderr
    assert "Traceback" not in done.stderr

    checkout.tool("uv", f'echo "$@" >> "{checkout.diary}"')
    assert checkout.works()
    assert len(checkout.installs()) == 1


def test_an_environment_made_by_hand_is_added_to_and_other_folders_are_refused(checkout: Checkout) -> None:
    mine = checkout.root / "mine"
    subprocess.run([PYTHON, "-m", "venv", "--without-pip", mine], check=True)
    (mine / "precious").touch()
    assert checkout.works(SHOPFLOOR_VENV=str(mine))
    assert (mine / "precious").exists()
    assert not (checkout.root / ".venv").exists()

    documents = checkout.root / "documents"
    documents.mkdir()
    (documents / "thesis.txt").touch()
    done = checkout.call(SHOPFLOOR_VENV=str(documents))
    assert done.returncode == 1
    assert "is in the way" in done.stderr
    assert [path.name for path in documents.iterdir()] == ["thesis.txt"]


def test_a_place_that_cannot_be_written_is_named_with_the_remedy(checkout: Checkout) -> None:
    (checkout.root / "file").touch()
    done = checkout.call(SHOPFLOOR_VENV=str(checkout.root / "file" / "venv"))
    assert done.returncode == 1
    assert "SHOPFLOOR_VENV=/some/directory" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_lock_is_said_plainly(checkout: Checkout) -> None:
    (checkout.root / "requirements.lock").unlink()
    done = checkout.call()
    assert done.returncode == 1
    assert "requirements.lock" in done.stderr
    assert "not whole" in done.stderr


def test_no_python_or_an_old_one_is_answered_with_what_to_install(checkout: Checkout) -> None:
    (checkout.tools / "python3").unlink()
    for name in ("dirname", "readlink", "sh"):
        found = shutil.which(name)
        assert found is not None
        (checkout.tools / name).symlink_to(found)
    done = checkout.call(PATH=str(checkout.tools))
    assert done.returncode == 1
    assert "needs Python 3.11 to 3.14" in done.stderr

    old = checkout.root / "old.py"
    text = checkout.launcher.read_text()
    old.write_text(text.replace("OLDEST, TOO_NEW = (3, 11)", "OLDEST, TOO_NEW = (4, 0)"))
    done = checkout.call(PYTHON, "-I", "-S", old, PATH=str(checkout.tools))
    assert done.returncode == 1
    assert "apt-get install python3" in done.stderr


def test_an_old_python_hands_over_to_a_newer_one_on_path(checkout: Checkout) -> None:
    # The wrapper of a version switcher is there for versions that are not.
    checkout.tool("python3", "exit 1")
    checkout.tool("python3.12", "exit 127")
    checkout.tool("python3.11", f'exec "{PYTHON}" "$@"')
    text = checkout.launcher.read_text()
    version = "if not inside and not is_usable(sys.version_info[:2])"
    assert version in text
    old = checkout.root / "old.py"
    old.write_text(text.replace(version, "if not inside and not is_usable((3, 6)) and os.environ.pop('OLD', None)"))
    assert checkout.works(PYTHON, "-I", "-S", old, OLD="yes")


def test_the_launcher_parses_where_it_only_says_that_python_is_too_old() -> None:
    ast.parse((SOURCE / "shopfloor").read_text(), feature_version=(3, 6))


def test_test_asks_for_help_without_installing_and_hands_arguments_to_pytest_only(checkout: Checkout) -> None:
    assert "--chaos" in checkout.call(checkout.launcher, "test", "--help").stdout
    assert checkout.installs() == []

    done = checkout.call(checkout.launcher, "test", "tests/x.py", "-k", "foo")
    assert [line.split("-r ")[1].split(" --")[0].rsplit("/", 1)[1] for line in checkout.installs()] == [
        "requirements.lock",
        "requirements-test.lock",
    ]
    assert "No module named pytest" in done.stderr
    assert "ruff" not in done.stdout + done.stderr

    done = checkout.call(checkout.launcher, "test")
    assert "== ruff check" in done.stdout
    assert "No module named pytest" not in done.stderr, "the first failure ends the gate"
    assert done.returncode != 0

    packages = next((checkout.root / ".venv").glob("lib/python*/site-packages"))
    (packages / "pytest.py").write_text("import os, sys; print(os.getcwd(), sys.argv[1:])")
    for words, expected in (
        (["-k", "foo"], ["-m", "not chaos and not slow", "-k", "foo"]),
        (["--chaos", "-x"], ["-m", "chaos", "-x"]),
    ):
        done = checkout.call(checkout.launcher, "test", *words)
        assert done.stdout.strip() == f"{checkout.root} {expected}"
