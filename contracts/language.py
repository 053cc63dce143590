"""The contract language as an author meets it: a cell is a folder with contract, soul, perhaps code, and examples."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from contracts.canonical import digest, sha256_hex
from contracts.contract import Check, Contract, ProposeClause, Version, parse_contract, read_contract
from contracts.documents import load_json
from contracts.errors import BadContract, NotFound
from contracts.excerpts import printable
from contracts.nouns import Draft, Escalation, NeedInfo, Outcome, Proposal, Refusal

__all__ = [
    "CellSource", "Check", "Contract", "Example", "ProposeClause", "Version", "load_cell_folder", "parse_contract",
    "read_contract",
]  # fmt: skip

MAX_FILES = 500
MAX_FILE_BYTES = 1_048_576
OUTCOMES: dict[str, type[Draft | Proposal | Refusal | NeedInfo | Escalation]] = {
    "draft": Draft, "proposal": Proposal, "refusal": Refusal, "need_info": NeedInfo, "escalation": Escalation,
}  # fmt: skip
_IN, _OUT = ".in.json", ".out.json"
_GIVEN = frozenset(("item", "as_of", "tools"))
_IGNORED = frozenset(("__pycache__",))


@dataclass(frozen=True, slots=True)
class Example:
    """An item with what the tools answer, and what the cell has to make of it."""

    name: str
    item: dict[str, Any]
    as_of: str
    """The data's own now; empty when the example does not care."""
    tools: tuple[dict[str, Any], ...]
    """Canned calls, each with `tool`, `arguments` and `answer`."""
    expected: Outcome


@dataclass(frozen=True, slots=True)
class CellSource:
    """A checked cell folder."""

    folder: Path
    contract: Contract
    soul_text: str
    code_path: Path | None
    """`cell.py`; None for a cell that is a contract and a soul alone."""
    examples: tuple[Example, ...]
    sha256: str
    """Over the names and bytes of soul and code: with the contract's own hash, all that decides what the cell does."""
    warnings: tuple[str, ...]
    """Files that nothing reads, a line each."""


def load_cell_folder(folder: Path) -> CellSource:
    """Return the cell of a folder. Raises NotFound without one, BadContract for anything in it that cannot be used."""
    if not folder.is_dir():
        raise NotFound(f"{folder}: no such folder", hint="name the folder that holds contract.yaml")
    files = _read(folder)
    contract = read_contract(_need(files, folder, "contract.yaml"), str(folder / "contract.yaml"))
    if contract.name != folder.resolve().name:
        raise BadContract(f"{folder}: the folder is named {folder.resolve().name!r}, its contract {contract.name!r}: name both alike")
    examples = tuple(_examples(folder, contract, files))
    return CellSource(
        folder=folder,
        contract=contract,
        soul_text=_soul(folder, files),
        code_path=folder / "cell.py" if "cell.py" in files else None,
        examples=examples,
        sha256=digest({name: sha256_hex(content) for name, content in files.items() if name == "soul.md" or name.endswith(".py")}),
        warnings=tuple(f"{folder / name}: nothing reads this file" for name in files if not _is_read(name)),
    )


def _read(folder: Path) -> dict[str, bytes]:
    """Return the content of every file under `folder` by its relative name, in order of names."""
    found: dict[str, bytes] = {}
    for path in _walk(folder):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not path.is_file():
            raise BadContract(f"{path}: neither a plain file nor a folder: a cell's files are in its own folder")
        size = path.stat().st_size
        if size > MAX_FILE_BYTES or len(found) == MAX_FILES:
            raise BadContract(f"{path}: a cell has at most {MAX_FILES} files of {MAX_FILE_BYTES} bytes; got one of {size}")
        try:
            found[name] = path.read_bytes()
        except OSError as problem:
            raise BadContract(f"{path}: cannot be read: {problem.strerror}") from problem
    return dict(sorted(found.items()))


def _walk(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name.startswith(".") or path.name in _IGNORED or path.suffix == ".pyc":
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path)
        else:
            yield path


def _is_read(name: str) -> bool:
    is_example = name.startswith("examples/") and name.count("/") == 1 and name.endswith((_IN, _OUT))
    return name in ("contract.yaml", "soul.md") or (name.endswith(".py")) or is_example


def _need(files: dict[str, bytes], folder: Path, name: str) -> bytes:
    if name not in files:
        raise BadContract(
            f"{folder}: has no {name}, which every cell has",
            hint="copy one that ships, such as workcells/cells/issue_review, and change it",
        )
    return files[name]


def _soul(folder: Path, files: dict[str, bytes]) -> str:
    try:
        text = _need(files, folder, "soul.md").decode()
    except UnicodeDecodeError as problem:
        raise BadContract(f"{folder / 'soul.md'}: byte {problem.start} is not UTF-8") from problem
    if not text.strip() or "\0" in text:
        raise BadContract(f"{folder / 'soul.md'}: is empty or holds NUL: say who the cell is, what it owns, what it must not do")
    return text


def _examples(folder: Path, contract: Contract, files: dict[str, bytes]) -> Iterator[Example]:
    names = [name for name in files if name.startswith("examples/") and name.count("/") == 1]
    given = {name.removesuffix(_IN) for name in names if name.endswith(_IN)}
    expected = {name.removesuffix(_OUT) for name in names if name.endswith(_OUT)}
    for stem in sorted(given ^ expected):
        missing = stem + (_OUT if stem in given else _IN)
        raise BadContract(f"{folder / missing}: missing; an example is a pair NAME{_IN} and NAME{_OUT}")
    for stem in sorted(given):
        yield _example(folder / stem, contract, files[stem + _IN], files[stem + _OUT])


def _example(stem: Path, contract: Contract, given_bytes: bytes, expected_bytes: bytes) -> Example:
    at_in, at_out = f"{stem}{_IN}", f"{stem}{_OUT}"
    given = load_json(given_bytes, at_in)
    if not isinstance(given, dict) or "item" not in given or given.keys() - _GIVEN:
        raise BadContract(f'{at_in}: expected an object with "item", and perhaps "as_of" and "tools"')
    for finding in contract.input_findings(given["item"]):
        raise BadContract(f"{at_in}, /item{finding.place}: {finding.message}, as {contract.takes_name} has it")
    tools = given.get("tools", [])
    for index, call in enumerate(tools if isinstance(tools, list) else [None]):
        if not isinstance(call, dict) or call.keys() != {"tool", "arguments", "answer"} or call["tool"] not in contract.tools_allow:
            raise BadContract(
                f'{at_in}, /tools/{index}: expected "tool", "arguments" and "answer" of one of: '
                f"{', '.join(contract.tools_allow) or 'no tools, the contract allows none'}"
            )
    outcome = _outcome(at_out, contract, load_json(expected_bytes, at_out))
    return Example(stem.name, given["item"], str(given.get("as_of", "")), tuple(tools), outcome)


def _outcome(at: str, contract: Contract, expected: Any) -> Outcome:
    kind = OUTCOMES.get(str(expected.get("outcome"))) if isinstance(expected, dict) else None
    if kind is None:
        raise BadContract(f'{at}: expected an object with "outcome", one of {", ".join(OUTCOMES)}')
    try:
        outcome = kind.model_validate({name: part for name, part in expected.items() if name != "outcome"})
    except ValidationError as problem:
        first = problem.errors()[0]
        place = "".join(f"/{step}" for step in first["loc"])
        raise BadContract(f"{at}, {printable(place)}: {printable(first['msg'], 160)}") from problem
    if isinstance(outcome, (Draft, Proposal)):
        for finding in contract.output_findings(outcome.value):
            raise BadContract(f"{at}, /value{finding.place}: {finding.message}, as {contract.gives_name} has it")
    if isinstance(outcome, Proposal):
        for finding in contract.action_findings(outcome.action.name, outcome.action.payload, outcome.action.precondition):
            raise BadContract(f"{at}, {finding.place}: {finding.message}")
    return outcome
