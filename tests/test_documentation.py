"""The documentation says what the code does: parts that follow from it are equal, everything is named, every example works."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from contracts import errors
from contracts.attempts import Cause
from contracts.lifecycle import MOVE_MEANS, MOVES, Reason, Stage, State
from docs import commands, generate
from pipeline.access.tokens import ROLES
from pipeline.failpoints import POINTS
from pipeline.stages.tools import tools_for
from pipeline.startup.settings import ELSEWHERE, KNOWN
from tests.command_lines import calls_in, parse
from workcells.appliers import NAMES
from workcells.shapes.catalogue import SHAPES

ROOT = Path(__file__).parents[1]
HOW = "write the parts that follow from the code anew: .venv/bin/python docs/generate.py"
GUIDES = ("README.md", "docs/operators.md", "docs/reviewers.md", "docs/authors.md", "docs/deployers.md")
LEAVES = [(name, command) for name, command in commands.every() if not isinstance(command, click.Group)]
_FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?!https?:)([^)#]*)(#[^)]*)?\)")


def text_of(*names: str) -> str:
    return "\n".join((ROOT / name).read_text(encoding="utf-8") for name in names)


def missing(words: Iterator[str] | list[str], *names: str) -> list[str]:
    """Return those words that none of the files has in backticks."""
    text = text_of(*names)
    return [word for word in words if not re.search(rf"`[^`\n]*(?<![\w.]){re.escape(word)}(?![\w.]*\w)[^`\n]*`", text)]


# ------------------------------------------------------------------ generated parts


@pytest.mark.parametrize("file", generate.files(), ids=lambda path: path.name)
def test_parts_that_follow_from_the_code_are_up_to_date(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert generate.renewed(text) == text, HOW


def test_every_part_that_can_be_generated_stands_somewhere() -> None:
    marked = {match["name"] for file in generate.files() for match in generate.PART.finditer(file.read_text(encoding="utf-8"))}
    assert marked == set(generate.PARTS)
    marks = sum(file.read_text(encoding="utf-8").count("<!-- generated: ") for file in generate.files())
    assert marks == sum(len(generate.PART.findall(file.read_text(encoding="utf-8"))) for file in generate.files()), "a part has no end"


def test_every_generated_code_says_something() -> None:
    silent = [line for part in (generate.error_codes(), generate.finding_codes()) for line in part.splitlines() if line.endswith("|  |")]
    assert silent == [], "write the message where the code is, or add it to SAID in docs/generate.py"


# ------------------------------------------------------------------ everything is named


@pytest.mark.parametrize("name", [name for name, _ in LEAVES])
def test_every_command_is_in_the_reference_and_in_a_guide(name: str) -> None:
    assert f"### `shopfloor {name}" in text_of("docs/reference.md"), HOW
    assert re.search(rf"shopfloor {re.escape(name)}\b", text_of(*GUIDES)), "say in a guide when it is needed"


def test_every_option_is_in_the_reference() -> None:
    text = text_of("docs/reference.md")
    sections = {part.split("`", 1)[0]: part for part in text.split("### `shopfloor ")[1:]}
    absent = [
        f"{name} {option.opts[0]}"
        for name, command in LEAVES
        for option in command.params
        if isinstance(option, click.Option) and not option.hidden
        if option.opts[0] not in next(part for head, part in sections.items() if head == name or head.startswith(f"{name} "))
    ]
    assert absent == [], HOW


def test_every_setting_is_documented() -> None:
    assert missing([*KNOWN, *ELSEWHERE], "docs/deployers.md") == []


def test_stages_states_moves_and_reasons_are_documented() -> None:
    assert missing([stage for stage in Stage if stage is not Stage.NONE], "README.md") == []
    assert missing([state for state in State if state is not State.NONE], "README.md") == []
    assert missing(list(Reason), "README.md") == []
    assert [name for name in MOVE_MEANS if f"**{name}**" not in text_of("README.md")] == []
    assert [one.number for one in MOVES if f"| {one.number} | {one.name} |" not in text_of("docs/reference.md")] == []


def test_causes_roles_tools_shapes_and_appliers_are_documented() -> None:
    assert missing(list(Cause), "docs/operators.md") == []
    assert missing(list(ROLES), "docs/operators.md") == []
    assert missing(list(tools_for(None, None, "")), "docs/authors.md") == []  # type: ignore[arg-type]
    assert missing(list(SHAPES), "docs/authors.md") == []
    assert missing(list(NAMES), "docs/authors.md") == []


def test_codes_of_rows_and_errors_are_documented() -> None:
    assert missing(list(errors.ROW_CODES), "docs/reference.md") == []
    assert missing([kind.code for kind in generate.error_classes().values()], "docs/reference.md") == []


def test_no_code_that_is_written_in_our_source_is_left_out() -> None:
    """By the simplest possible search, in case the generator overlooks a way of writing one."""
    written = re.compile(r"""code=["']([a-z_]+(?:\.[a-z_]+)+)["']""")
    found = {
        code
        for room in generate.ROOMS
        for path in (ROOT / room).rglob("*.py")
        for code in written.findall(path.read_text(encoding="utf-8"))
    }
    cells_own = {"item.not_open"}
    assert missing(sorted(found - cells_own), "docs/reference.md", "docs/authors.md") == [], HOW


def test_failpoints_are_documented() -> None:
    assert missing(list(POINTS), "docs/reference.md") == []


def test_every_key_of_a_contract_and_a_floor_is_documented_with_its_meaning() -> None:
    for part in (generate.contract_keys(), generate.floor_keys()):
        rows = [line.strip("| ").split(" | ") for line in part.splitlines()[2:]]
        assert len(rows) > 20
        assert [row[0] for row in rows if len(row) < 4 or not row[-1].strip()] == [], "describe it in contracts/meta"


def test_the_views_for_auditors_are_documented() -> None:
    sql = text_of("queues/migrations/sql/0001_inspect.sql")
    views = re.findall(r"^CREATE VIEW (\w+) ", sql, re.MULTILINE)
    assert len(views) >= 19
    assert missing([f"inspect.{view}" for view in views], "docs/reference.md") == []


# ------------------------------------------------------------------ examples work


@pytest.mark.parametrize(("name", "command"), list(commands.every()), ids=[name for name, _ in commands.every()])
def test_every_help_has_an_example_that_parses(name: str, command: click.Command) -> None:
    said, examples = commands.parts_of(command)
    assert said, "say what it does"
    ours = [words for line in examples for words in calls_in(line)]
    if isinstance(command, click.Group):
        assert examples, "show an example"
        assert ours
    else:
        assert any(words[: len(name.split())] == name.split() for words in ours), "show an example of itself"
    for words in ours:
        parse(words)


@pytest.mark.parametrize("file", [*GUIDES, "docs/reference.md"])
def test_every_command_line_in_the_documentation_parses(file: str) -> None:
    lines = [line for _, kind, body in _FENCED.findall(text_of(file)) if kind == "sh" for line in body.splitlines()]
    ours = [(line.strip(), words) for line in lines for words in calls_in(line)]
    assert ours
    for line, words in ours:
        try:
            parse(words)
        except click.UsageError as error:
            pytest.fail(f"{line}: {error.format_message()}")


# ------------------------------------------------------------------ links


@pytest.mark.parametrize(
    "file", [file.relative_to(ROOT).as_posix() for file in [*generate.files(), *(ROOT / "docs" / "decisions").glob("*.md")]]
)
def test_links_lead_somewhere(file: str) -> None:
    broken = []
    for path, anchor in _LINK.findall(text_of(file)):
        target = (ROOT / file).parent / path if path else ROOT / file
        if not target.exists() or (anchor and anchor[1:] not in anchors(target)):
            broken.append(f"{path}{anchor}")
    assert broken == []


def anchors(file: Path) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", _FENCED.sub("", file.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def test_the_project_speaks_of_itself_alone() -> None:
    """No path of somebody's machine, no host of somebody's network."""
    foreign = re.compile(r"/(?:work|tmp|root|home/\w+)/|localhost:\d|\bTODO\b|\bFIXME\b")
    files = [*generate.files(), ROOT / "CHANGELOG.md", *(ROOT / "docs" / "decisions").glob("*.md")]
    found = [f"{file.name}: {match[0]}" for file in files for match in foreign.finditer(file.read_text(encoding="utf-8"))]
    assert found == []
