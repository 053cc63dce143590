"""The reference work: a label by keyword, a 2 KB value, and one proposal to record it."""

from typing import Any

from workcells.api import Action, Bench, Proposal, cell

KEYWORDS = {
    "invoice": "billing", "refund": "billing", "crash": "defect", "timeout": "defect",
    "password": "access", "login": "access", "quote": "sales", "renewal": "sales",
}  # fmt: skip


@cell
def classify(item: dict[str, Any], bench: Bench) -> Proposal:  # noqa: ARG001 - every cell is handed one
    """Return the item's label, and the wish to record it."""
    body: str = item["body"]
    label = next((label for word, label in KEYWORDS.items() if word in body), "other")
    words = body.split()
    value = {
        "item": item["id"], "label": label, "title": item["title"], "summary": body[:390], "confidence": 0.9,
        "words": len(words), "chars": len(body), "keywords": words[:30], "route": label, "priority": item["priority"],
        "source": item["source"], "language": "en", "checks": [{"name": f"check-{k}", "ok": True} for k in range(5)],
        "body": body, "produced_by": "reference/1",
    }  # fmt: skip
    # The sink shows nothing: null is what it answers for every field.
    action = Action(name="record", target=f"record#{item['id']}", payload={"label": label}, precondition={"source": None})
    return Proposal(value=value, action=action, confidence=0.9)
