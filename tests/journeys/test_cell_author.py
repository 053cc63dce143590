"""The author's guide, followed to the letter: its cell and its floor are what is run here."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from contracts.errors import BadContract
from contracts.language import read_contract
from contracts.lifecycle import Role
from pipeline.floors.publish import publish_cell, publish_floor, read_floor
from pipeline.startup.compose import Shop
from pipeline.startup.setup import load_registry
from tests.in_process import Road
from workcells.examples import try_examples
from workcells.registry import load_cell

GUIDE = (Path(__file__).parents[2] / "docs" / "authors.md").read_text(encoding="utf-8")
_FILES = re.compile(r"^`((?:ticket_triage/|floor\.yaml)[^`]*)`\n\n```\w+\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture
def factory(tmp_path: Path) -> Path:
    """The files of the guide, written down as it says."""
    written = _FILES.findall(GUIDE)
    assert {"ticket_triage/contract.yaml", "ticket_triage/cell.py", "floor.yaml"} <= {name for name, _ in written}
    for name, body in written:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(body, encoding="utf-8")
    return tmp_path


def ticket(number: int, body: str, **fields: Any) -> dict[str, Any]:
    return {"id": f"T-{number}", "updated_at": "2026-03-01", "title": "A ticket", "body": body} | fields


@pytest.fixture
def line(factory: Path, shop: Shop, road: Road) -> Road:
    """The road with the guide's cell published and its floor in force."""
    road.registry = load_registry(factory)
    with shop.connect(Role.OPERATE) as conn:
        workspace = shop.workspace_id(conn)
        publish_cell(conn, road.registry.by_name["ticket_triage"], by="author")
        publish_floor(conn, workspace, read_floor(factory / "floor.yaml"), road.registry, by="author")
    return road


def test_the_guides_cell_passes_its_own_examples(factory: Path) -> None:
    tried = list(try_examples(load_cell(factory / "ticket_triage")))
    assert [(one.name, one.why) for one in tried] == [("about_nothing", ""), ("wrong_invoice", "")]


def test_contract_check_accepts_the_guides_folder(factory: Path, cli: Any) -> None:
    done = cli("contract", "check", str(factory / "ticket_triage"))
    assert (done.exit_code, done.stderr) == (0, "")
    assert "2 of 2 examples passed" in done.stdout


def test_tickets_travel_the_guides_line(line: Road) -> None:
    report = line.take_in(
        [
            ticket(1, "The invoice of March is wrong."),
            ticket(2, "Nothing in particular to say."),
            ticket(3, "x", title="[internal] a test"),
            ticket(4, "an invoice"),
            ticket(5, "There was an error, I think."),
            ticket(6, "one more", status="unknown field"),
        ],
        flow="tickets",
    )
    assert (report.accepted, report.rejected, report.first_rejects[0].line) == (5, 1, 6)

    line.run()

    found = {item["row_no"]: (item["stage"], item["state"], item["finding"]) for item in line.items()}
    assert found == {
        1: ("archive", "done", "billing"),
        2: ("workcell", "refused", "triage.nothing_known"),
        3: ("route", "refused", "route.internal"),
        4: ("qa", "waiting", ""),
        5: ("qa", "waiting", ""),
    }
    waits = {item["row_no"]: item["waiting_on"] for item in line.items(state="waiting")}
    assert "says too little" in waits[4]
    assert "its confidence is 0.5, below 0.6" in waits[5]


def test_evidence_of_a_kind_that_the_contract_does_not_allow_is_reworked(factory: Path, line: Road) -> None:
    """The guide's contract takes quotes alone; a cell that cites a whole item breaks it."""
    code = factory / "ticket_triage" / "cell.py"
    citing = code.read_text(encoding="utf-8").replace(
        'quote = Quote(subject=ticket["id"], field="body", start=start, end=start + len(word), text=word)',
        'quote = Citation(subject=ticket["id"], revision=ticket["updated_at"])',
    )
    code.write_text(citing.replace("Evidence, Outcome, Quote", "Citation, Evidence, Outcome"), encoding="utf-8")
    line.registry = load_registry(factory)

    line.take_in([ticket(1, "The invoice of March is wrong.")], flow="tickets")
    line.run()

    [item] = line.items()
    assert (item["stage"], item["state"], item["reason"]) == ("rework", "waiting", "human")
    with line.shop.connect(Role.AUDIT) as conn:
        codes = conn.execute("SELECT DISTINCT code FROM shopfloor.findings").fetchall()
    assert codes == [("contract.evidence_source",)]


def test_the_guides_clause_on_proposals_is_one_that_the_language_takes(factory: Path) -> None:
    [clause] = re.findall(r"```yaml\n(proposes:\n.*?)```", GUIDE, re.DOTALL)
    whole = (factory / "ticket_triage" / "contract.yaml").read_text(encoding="utf-8") + clause
    with pytest.raises(BadContract, match="is not a field of ticket@1"):
        read_contract(whole, "contract.yaml")  # a ticket has no state: fields that a decision rests on are checked
    with_state = whole.replace("body: {type: string}", "body: {type: string}\n      state: {type: string}")
    assert read_contract(with_state, "contract.yaml").proposes["close"].tier == "single"


def test_the_guides_tool_example_is_json() -> None:
    [example] = re.findall(r'`("tools": \[.*?\])`', GUIDE)
    assert json.loads(f"{{{example}}}")["tools"][0]["tool"] == "mentions_of"
