"""Writes the parts of the documentation that follow from the code, `.venv/bin/python docs/generate.py`; a test compares them.

A part stands in a Markdown file between `<!-- generated: NAME -->` and `<!-- end: NAME -->`; each NAME is a function here
or in `docs/commands.py`.
"""

import ast
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from contracts import errors  # noqa: E402 - the folder had to be on the path first
from contracts.attempts import CEILINGS  # noqa: E402
from contracts.expressions import FUNCTIONS  # noqa: E402
from contracts.lifecycle import CLAIMABLE_STAGES, MOVE_MEANS, MOVES, REASON_MEANS, Move, Reason, Stage, State  # noqa: E402
from docs import commands  # noqa: E402
from pipeline.failpoints import POINTS  # noqa: E402
from pipeline.startup.settings import ELSEWHERE, KNOWN  # noqa: E402
from workcells.appliers import NAMES, applier_class  # noqa: E402

SAID = {
    "denied.review": "the person wrote, edited or submitted this work, is a service, or does not hold the role reviewer",
    "apply.failed": "what the target, or the applier for it, answered",
    "apply.drifted": "the target changed in …",
    "apply.expired": "the approval no longer holds",
    "operator.returned": "what an operator wrote with `rework`",
    "review.returned": "what a reviewer wrote with `review rework`",
}
"""Messages that are not written where the code is."""
ROOMS = ("contracts", "queues", "artifacts", "workcells", "pipeline", "console")
PART = re.compile(r"(<!-- generated: (?P<name>[a-z-]+) -->\n).*?(<!-- end: (?P=name) -->)", re.DOTALL)


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *([str(part).replace("|", "\\|") for part in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


# ------------------------------------------------------------------ lifecycle


def lifecycle() -> str:
    """Return the moves by name: from where, to where, who records them, what they mean."""
    rows = []
    for name, means in MOVE_MEANS.items():
        group = [one for one in MOVES if one.name == name]
        who = ", ".join(sorted({role.value for one in group for role in one.roles}))
        rows.append((f"**{name}**", "<br>".join(_paths(group)), who, means))
    return table(("move", "from → to", "recorded by", "means"), rows)


def _paths(group: Sequence[Move]) -> Iterator[str]:
    """Yield where a move leads, the stages that do the same in one line."""
    within: dict[tuple[State, State], list[Stage]] = {}
    into: dict[tuple[State, Stage, State], list[Stage]] = {}
    for one in group:
        if one.from_stage is one.to_stage:
            within.setdefault((one.from_state, one.to_state), []).append(one.from_stage)
        else:
            into.setdefault((one.from_state, one.to_stage, one.to_state), []).append(one.from_stage)
    for (before, after), stages in within.items():
        yield f"{_stages(stages)}: {before} → {after}"
    for (before, stage, after), stages in into.items():
        yield f"{_stages(stages)}: {before} → {stage}: {after}" if before is not State.NONE else f"nothing → {stage}: {after}"


def _stages(stages: Sequence[Stage]) -> str:
    missing, more = (
        [stage for stage in CLAIMABLE_STAGES if stage not in stages],
        [stage for stage in stages if stage not in CLAIMABLE_STAGES],
    )
    if len(missing) > 1 or len(stages) < len(CLAIMABLE_STAGES) - 1:
        return ", ".join(stages)
    said = "any stage" if not missing else f"any stage but {missing[0]}"
    return said + (f", {', '.join(more)} too" if more else "")


def moves() -> str:
    """Return every legal move with the number that history holds."""
    rows = [
        (one.number, one.name, f"{one.from_stage}/{one.from_state}", f"{one.to_stage}/{one.to_state}", ", ".join(sorted(one.roles)))
        for one in sorted(MOVES)
    ]  # fmt: skip
    return table(("no.", "move", "from", "to", "roles"), rows)


def reasons() -> str:
    """Return the reasons in order of precedence."""
    return table(("reason", "means"), ((f"`{reason}`", REASON_MEANS[reason]) for reason in Reason))


def ceilings() -> str:
    """Return how many attempts may end for each cause."""
    return table(("cause", "attempts"), ((f"`{cause}`", most) for cause, most in CEILINGS.items()))


# ------------------------------------------------------------------ settings, failpoints, appliers, expressions


def settings() -> str:
    """Return every setting with its default and meaning."""
    rows = [(f"`{name}`", "–" if one.default is None else f"`{one.default}`", one.metadata["means"]) for name, one in KNOWN.items()]
    rows += [(f"`{name}`", "–", means) for name, means in sorted(ELSEWHERE.items())]
    return table(("setting", "default", "means"), rows)


def failpoints() -> str:
    """Return every failpoint with where it stands."""
    return table(("point", "stands where"), ((f"`{point}`", means) for point, means in POINTS.items()))


def appliers() -> str:
    """Return what each applier can do and read."""
    rows = []
    for name in NAMES:
        kind = applier_class(name)
        lists = (", ".join(f"`{word}`" for word in sorted(words)) if words is not None else "any" for words in (kind.actions, kind.fields))
        rows.append((f"`{name}`", kind.idempotency, *lists))
    return table(("applier", "idempotency", "actions", "fields for `depends_on`"), rows)


def functions() -> str:
    """Return what expressions can call beyond CEL itself."""
    rows = []
    for name, function in FUNCTIONS.items():
        arguments = ", ".join(function.__code__.co_varnames[: function.__code__.co_argcount])
        rows.append((f"`{name}({arguments})`", (function.__doc__ or "").splitlines()[0].removeprefix("Return ").rstrip(".")))
    return table(("function", "gives"), rows)


# ------------------------------------------------------------------ file formats


def contract_keys() -> str:
    """Return every key of contract.yaml."""
    return _keys("contract")


def floor_keys() -> str:
    """Return every key of floor.yaml."""
    return _keys("floor")


def _keys(name: str) -> str:
    schema = json.loads((ROOT / "contracts" / "meta" / f"{name}.json").read_text(encoding="utf-8"))
    return table(("key", "", "is", "means"), dict.fromkeys(_walk(schema, schema, "")))


def _walk(root: Any, schema: Any, path: str) -> Iterator[tuple[str, str, str, str]]:
    schema = _followed(root, schema)
    required = set(schema.get("required", ()))
    for key, part in schema.get("properties", {}).items():
        at = f"{path}.{key}" if path else key
        found = _followed(root, part)
        yield f"`{at}`", "required" if key in required else "", _type(found), found.get("description", "")
        yield from _walk(root, part, at)
    if isinstance(schema.get("additionalProperties"), dict):
        yield from _walk(root, schema["additionalProperties"], f"{path}.NAME")
    if isinstance(schema.get("items"), dict):
        yield from _walk(root, schema["items"], f"{path}[]")
    for branch in schema.get("oneOf", ()):
        yield from _walk(root, branch, path)


def _followed(root: Any, schema: Any) -> dict[str, Any]:
    if "$ref" not in schema:
        return dict(schema)
    found = root
    for step in schema["$ref"].removeprefix("#/").split("/"):
        found = found[step]
    return {**found, **{key: value for key, value in schema.items() if key != "$ref"}}


def _type(schema: dict[str, Any]) -> str:
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return " or ".join(f"`{word}`" for word in schema["enum"])
    if schema.get("type") == "array":
        return "list"
    if isinstance(schema.get("type"), list):
        return " or ".join(schema["type"])
    bounds = f" {schema['minimum']}–{schema['maximum']}" if "maximum" in schema else ""
    return f"{schema.get('type', 'any')}{bounds}"


# ------------------------------------------------------------------ codes


def row_codes() -> str:
    """Return what may be wrong with a row."""
    return table(("code", "means"), ((f"`{code}`", means) for code, means in errors.ROW_CODES.items()))


def error_kinds() -> str:
    """Return the error tree with exit codes."""
    kinds = sorted(error_classes().values(), key=lambda kind: (kind.exit_code, kind.code))
    return table(
        ("code", "exit", "means"), ((f"`{kind.code}`", kind.exit_code, (kind.__doc__ or "").strip().splitlines()[0]) for kind in kinds)
    )


def error_codes() -> str:
    """Return every finer code that an error of ours carries, with the shape of its message."""
    kinds = error_classes()
    found: dict[str, tuple[int | str, str]] = {}
    for kind, code, message in coded_calls():
        if kind in kinds and code not in {one.code for one in kinds.values()} and not found.get(code, (0, ""))[1]:
            found[code] = kinds[kind].exit_code, message or SAID.get(code, "")
    return table(("code", "exit", "says"), ((f"`{code}`", *rest) for code, rest in sorted(found.items())))


def finding_codes() -> str:
    """Return every code of a finding that shopfloor itself makes; cells and contracts add their own."""
    found: dict[str, str] = {}
    for kind, code, message in coded_calls():
        if kind == "Finding" and not found.get(code):
            found[code] = message or SAID[code]
    found |= {code: SAID[code] for code in ("apply.drifted", "apply.expired", "operator.returned", "review.returned")}
    return table(("code", "says"), ((f"`{code}`", message) for code, message in sorted(found.items())))


def error_classes() -> dict[str, type[errors.ShopfloorError]]:
    """Return every error class by name, those of the appliers and the Bench too."""
    import workcells.bench  # noqa: F401 - it adds leaves to the tree

    found: dict[str, type[errors.ShopfloorError]] = {}
    waiting: list[type[errors.ShopfloorError]] = list(errors.ShopfloorError.__subclasses__())
    while waiting:
        kind = waiting.pop()
        found[kind.__name__] = kind
        waiting += kind.__subclasses__()
    return found


def coded_calls() -> Iterator[tuple[str, str, str]]:
    """Yield (class, code, message) for every `Kind("message", code="a.b")` and `(Kind, "a.b", …)` in our source."""
    for path in sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        texts = [
            (node.lineno, one.id, node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign)
            for one in node.targets
            if isinstance(one, ast.Name)
        ]
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                given = {word.arg: word.value for word in node.keywords}
                code = given.get("code")
                if isinstance(code, ast.Constant) and isinstance(code.value, str):
                    message = node.args[0] if node.args else given.get("message")
                    if isinstance(message, ast.Name):
                        # A message with a name of its own: what the name was last set to above this line.
                        message = max(
                            ((line, text) for line, name, text in texts if name == message.id and line <= node.lineno),
                            default=(0, None),
                            key=lambda found: found[0],
                        )[1]
                    yield node.func.id, code.value, shape(message)
            elif isinstance(node, ast.Tuple) and len(node.elts) > 1 and isinstance(node.elts[0], ast.Name):
                second = node.elts[1]
                if isinstance(second, ast.Constant) and isinstance(second.value, str) and "." in second.value:
                    yield node.elts[0].id, second.value, ""


def shape(message: ast.expr | None) -> str:
    """Return a message as it is written, with … for what is filled in."""
    if isinstance(message, ast.Constant):
        return str(message.value)
    if isinstance(message, ast.IfExp):
        return shape(message.body)
    if isinstance(message, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in message.values)
    return ""


PARTS: dict[str, Callable[[], str]] = {
    "lifecycle": lifecycle, "moves": moves, "reasons": reasons, "ceilings": ceilings, "settings": settings, "failpoints": failpoints,
    "appliers": appliers, "functions": functions, "contract-keys": contract_keys, "floor-keys": floor_keys, "row-codes": row_codes,
    "error-kinds": error_kinds, "error-codes": error_codes, "finding-codes": finding_codes, "commands": commands.reference,
    "command-index": commands.index,
}  # fmt: skip


def files() -> list[Path]:
    """Return the files that are read for parts."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def renewed(text: str) -> str:
    """Return a file's text with every part as the code has it now. Raises KeyError for a part that nobody makes."""
    return PART.sub(lambda match: f"{match[1]}{PARTS[match['name']]()}\n{match[3]}", text)


if __name__ == "__main__":
    for file in files():
        before = file.read_text(encoding="utf-8")
        after = renewed(before)
        if after != before:
            file.write_text(after, encoding="utf-8")
            sys.stdout.write(f"renewed {file.relative_to(ROOT)}\n")
