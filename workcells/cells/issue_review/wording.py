"""Every sentence that the cell writes to a tracker once a person approved it.

Only numbers, dates and words from this file go in. Titles, bodies and logins are a stranger's text and stay
out: a comment can neither ping anybody nor carry markup, a secret or an instruction.
"""


def closes_as_completed(pull: str, merged: str) -> str:
    """Return the comment on an issue that a merged pull request resolved."""
    return (
        f"Pull request {pull}, merged on {merged}, says that it fixes this issue, so it is closed as completed. "
        f"If the problem is still there in a version that contains {pull}, please say so here and it will be reopened."
    )


def closes_as_superseded(pull: str, merged: str) -> str:
    """Return the comment on a pull request that a merged one took the place of."""
    return (
        f"Pull request {pull}, merged on {merged}, takes the place of this one, so this one is closed. "
        "If something in it is still missing, please say so here and it will be reopened."
    )


def closes_as_labelled(word: str) -> str:
    """Return the comment on an item that its label says is settled."""
    why = "as a duplicate" if word == "duplicate" else "as not planned"
    return (
        f"This has carried the label “{word}” for a while, so it is closed {why}. "
        "If the label is wrong, please say so here and it will be reopened."
    )


def asks_whether_resolved(pull: str, merged: str) -> str:
    """Return the question on an issue that a merged pull request may have resolved."""
    return (
        f"Pull request {pull}, merged on {merged}, mentions this issue. Does it resolve it? "
        "If it does, the issue can be closed; if not, a line on what is missing would help."
    )


def asks_whether_superseded(pull: str, merged: str) -> str:
    """Return the question on a pull request that looks like one already merged."""
    return (
        f"Pull request {pull}, merged on {merged}, looks like the same change as this one. "
        "Is anything in this one still needed? If not, it can be closed."
    )


def asks_about_label(word: str) -> str:
    """Return the question on an item whose label and treatment disagree."""
    return f"This carries the label “{word}” and is still open. Should it be closed, or is the label out of date?"
