r"""github_issue@1: an issue or pull request, as GitHub's REST API returns it or as `gh … list --json …` prints it.

`key`, `repo`, `number`: `owner/repo#12` in lower case (GitHub compares names without case), the repository as
    spelt in the row, and a positive integer. A row that names no repository belongs to `local/tracker`.
`kind`: `issue` or `pull_request`.
`title`, `body`: text as written, but `\r\n` and a lone `\r` are `\n`, and no body is the empty string. Offsets
    of quotes count the code points of this text.
`state`, `state_reason`: `open` or `closed` (which a merged pull request is); `completed`, `not_planned`,
    `reopened`, `duplicate` or null.
`merged_at`: when the pull request was merged; null for issues and for what was not merged.
`labels`: names in NFC, without repeats, sorted.
`author`, `author_association`: the login, `ghost` when the account is gone; `OWNER`, `MEMBER`, `NONE`, …, or null
    when the export does not say.
`created_at`, `updated_at`, `closed_at`: `YYYY-MM-DDTHH:MM:SSZ`, UTC; fractions of a second are dropped.
`comments`: how many, null when the export does not say. `draft`, `locked`: booleans. `url`: the page, or null.
"""

from collections.abc import Mapping
from typing import Any

from workcells.shapes.github_fields import (
    association_of,
    comments_of,
    flag_of,
    instant_of,
    label_names,
    login_of,
    missing_refused,
    number_of,
    page_of,
    pull_of,
    reason_of,
    repository_of,
    state_of,
    text_of,
    title_of,
    value_refused,
)
from workcells.shapes.github_references import mentions

__all__ = ["FIELDS", "export_command", "mentions", "normalise", "unsupported_findings"]

NO_REPO = "local/tracker"
FIELDS = frozenset(
    (
        "key", "repo", "number", "kind", "title", "body", "state", "state_reason", "merged_at", "draft", "labels", "author",
        "author_association", "created_at", "updated_at", "closed_at", "comments", "locked", "url",
    )
)  # fmt: skip
"""The fields of every github_issue@1."""


def normalise(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return `row` as github_issue@1; raise RowRefused naming the field that cannot be used."""
    return _from_gh(row) if _is_gh(row) else _from_rest(row)


def _is_gh(row: Mapping[str, Any]) -> bool:
    """True for the camelCase spelling of `gh`; the two never meet in one export."""
    if "createdAt" in row or "updatedAt" in row:
        return True
    return not ("created_at" in row or "updated_at" in row or "html_url" in row)


def _from_rest(row: Mapping[str, Any]) -> dict[str, Any]:
    number = number_of(row)
    page_repo, page_kind = page_of(row, "html_url", number)
    pull = pull_of(row)
    # The issues API nests the merge in `pull_request`; the pulls API has it on the row.
    nested = pull is not None and "merged_at" in pull
    is_pull = pull is not None or page_kind == "pull"
    state = state_of(row, is_pull=is_pull)
    merged_at = None
    if is_pull:
        merged_at = instant_of(
            (pull if nested and pull is not None else row).get("merged_at"),
            "/pull_request/merged_at" if nested else "/merged_at",
            optional=True,
        )
        if merged_at and state == "open":
            raise value_refused("/state", "closed, for the row carries a merge time", "open")
    repo = repository_of(row) or page_repo or NO_REPO
    return {
        "key": f"{repo.lower()}#{number}",
        "repo": repo,
        "number": number,
        "kind": "pull_request" if is_pull else "issue",
        "title": title_of(row),
        "body": text_of(row, "body"),
        "state": state,
        "state_reason": reason_of(row, "state_reason"),
        "merged_at": merged_at,
        "draft": flag_of(row, "draft"),
        "labels": label_names(row),
        "author": login_of(row, "user"),
        "author_association": association_of(row, "author_association"),
        "created_at": instant_of(row.get("created_at"), "/created_at"),
        "updated_at": instant_of(row.get("updated_at"), "/updated_at"),
        "closed_at": instant_of(row.get("closed_at"), "/closed_at", optional=True) if state == "closed" else None,
        "comments": comments_of(row),
        "locked": flag_of(row, "locked"),
        "url": row.get("html_url"),
    }


def _from_gh(row: Mapping[str, Any]) -> dict[str, Any]:
    number = number_of(row)
    page_repo, page_kind = page_of(row, "url", number)
    is_pull = page_kind == "pull" or "mergedAt" in row or "isDraft" in row or row.get("state") == "MERGED"
    state = state_of(row, is_pull=is_pull)
    merged_at = instant_of(row.get("mergedAt"), "/mergedAt", optional=True) if is_pull else None
    if merged_at and state == "open":
        raise value_refused("/state", "CLOSED or MERGED, for the row carries a merge time", row["state"])
    if row.get("state") == "MERGED" and merged_at is None:
        if row.get("closedAt") is None:
            raise missing_refused("/mergedAt")
        merged_at = instant_of(row["closedAt"], "/closedAt")  # a merge closes at the same instant
    repo = page_repo or NO_REPO
    return {
        "key": f"{repo.lower()}#{number}",
        "repo": repo,
        "number": number,
        "kind": "pull_request" if is_pull else "issue",
        "title": title_of(row),
        "body": text_of(row, "body"),
        "state": state,
        "state_reason": reason_of(row, "stateReason"),
        "merged_at": merged_at,
        "draft": flag_of(row, "isDraft"),
        "labels": label_names(row),
        "author": login_of(row, "author"),
        "author_association": association_of(row, "authorAssociation"),
        "created_at": instant_of(row.get("createdAt"), "/createdAt"),
        "updated_at": instant_of(row.get("updatedAt"), "/updatedAt"),
        "closed_at": instant_of(row.get("closedAt"), "/closedAt", optional=True) if state == "closed" else None,
        "comments": comments_of(row),
        "locked": flag_of(row, "locked"),
        "url": row.get("url"),
    }


def unsupported_findings(sample_row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (finding, missing field) for what a file of rows like this one cannot support.

    Look at one issue and one pull request: `gh` exports them with different fields.
    """
    gh = _is_gh(sample_row)
    is_pull = bool(sample_row.get("pull_request")) or "mergedAt" in sample_row or "isDraft" in sample_row
    wanted = [
        ("body", "body", ("resolved_by_merged_pr", "superseded_pr")),
        ("labels", "labels", ("labelled_but_open", "resolved_by_merged_pr", "superseded_pr")),
        (
            "author_association",
            "authorAssociation",
            ("resolved_by_merged_pr", "superseded_pr", "labelled_but_open"),
        ),
    ]
    if not is_pull:
        wanted.append(("state_reason", "stateReason", ("resolved_by_merged_pr",)))
    if gh and not is_pull and sample_row.get("state") != "MERGED":
        wanted.append(("pull_request", "mergedAt", ("resolved_by_merged_pr", "superseded_pr")))
    return [
        (finding, gh_name if gh else rest_name)
        for rest_name, gh_name, findings in wanted
        if (gh_name if gh else rest_name) not in sample_row
        for finding in findings
    ]


def export_command(repo: str) -> str:
    """Return the command whose output carries every field, issues and pull requests together, one row a line."""
    return f'gh api --paginate "repos/{repo}/issues?state=all&per_page=100" --jq ".[]" > issues.jsonl'
