"""The engine of the CEL library, without the terminal program around it."""

import subprocess
import sys

PROGRAM = """
import sys
from contracts.expressions import Expression
assert Expression("1 + 1 == 2", variables=()).is_true({})
print(*sorted(name for name in ("cel", "prompt_toolkit", "typer") if name in sys.modules))
import cel
assert cel.evaluate("1 + 1") == 2
assert Expression("2 + 2 == 4", variables=()).is_true({})
print("both")
"""


def test_rules_load_no_terminal_program_and_leave_the_package_usable():
    # A process of its own: in this one some other test may have imported the package.
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == ["both"], done.stderr[-500:]
