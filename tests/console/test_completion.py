"""`shopfloor completion`, and what the shells then ask."""

import shutil
import subprocess
from typing import Any

import pytest
from click.testing import CliRunner
from console import VERSION
from console.catalogue import COMMANDS
from console.commands.completion import completion


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_script_for_the_command_shopfloor(shell: str) -> None:
    done = CliRunner().invoke(completion, [shell])

    assert done.exit_code == 0
    assert f"_SHOPFLOOR_COMPLETE={shell}_complete" in done.stdout
    assert "shopfloor" in done.stdout


def test_bash_can_read_the_script() -> None:
    if shutil.which("bash") is None:
        pytest.skip("bash is NOT HERE")
    script = CliRunner().invoke(completion, ["bash"]).stdout

    read = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert (read.returncode, read.stderr) == (0, "")


def test_completing_offers_every_command(cli: Any) -> None:
    done = cli(env={"_SHOPFLOOR_COMPLETE": "bash_complete", "COMP_WORDS": "shopfloor ", "COMP_CWORD": "1"})

    assert {line.partition(",")[2] for line in done.stdout.splitlines()} == set(COMMANDS)


def test_completing_goes_on_below_a_group(cli: Any) -> None:
    done = cli(env={"_SHOPFLOOR_COMPLETE": "bash_complete", "COMP_WORDS": "shopfloor db url --r", "COMP_CWORD": "3"})

    assert done.stdout.split() == ["plain,--role"]


def test_another_shell_is_refused() -> None:
    done = CliRunner().invoke(completion, ["tcsh"])

    assert done.exit_code == 2
    assert "bash" in done.output


def test_it_says_its_version_without_having_been_installed_as_a_package(cli: Any) -> None:
    done = cli("--version")

    assert (done.exit_code, done.stdout.strip()) == (0, VERSION)
