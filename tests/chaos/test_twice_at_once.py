"""The same file by two intakes at once: each row is accepted once, whoever wins."""

import json
import subprocess
import sys
from pathlib import Path

from console.benchmarks.reference import write_file
from tests.chaos.account import violations
from tests.chaos.plant import Plant

ROWS = 3000


def test_the_same_file_taken_in_twice_at_once_is_accepted_once(plant: Plant, tmp_path: Path) -> None:
    file = write_file(tmp_path / "rows.jsonl", 1, ROWS)
    command = [sys.executable, "-P", "-m", "console", "intake", str(file), "--flow", "reference", "--json"]
    both = [
        subprocess.Popen(
            command,
            env=plant.environment,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        for _ in range(2)
    ]
    told = [(process.communicate(timeout=120), process.returncode) for process in both]

    assert plant.count("SELECT count(*) FROM items") == ROWS
    assert violations_but_stranded(plant) == []
    # One of them may have been told that the other was at it; whoever ended well accounts for every row.
    codes = sorted(code for _, code in told)
    assert codes[0] == 0, told
    assert codes[1] in (0, 4), told
    for (out, _), code in told:
        if code == 0:
            account = json.loads(out.strip().splitlines()[-1])
            assert (account["rows"], account["accepted"] + account["duplicate"]) == (ROWS, ROWS)


def violations_but_stranded(plant: Plant) -> list[str]:
    """Nobody works here: what waits for a worker is in order."""
    return [line for line in violations(plant.admin) if not line.startswith("nothing is stranded")]
