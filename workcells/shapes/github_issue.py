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
from typing import Any, NamedTuple

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


class _Spelling(NamedTuple):
    """What the fields are called that REST and `gh` name differently."""

    url: str
    author: str
    author_association: str
    state_reason: str
    draft: str
    created_at: str
    updated_at: str
    closed_at: str
    merged_at: str


_REST = _Spelling(
    "html_url", "user", "author_association", "state_reason", "draft", "created_at", "updated_at", "closed_at", "merged_at"
)  # fmt: skip
_GH = _Spelling(
    "url", "author", "authorAssociation", "stateReason", "isDraft", "createdAt", "updatedAt", "closedAt", "mergedAt"
)  # fmt: skip


def normalise(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return `row` as github_issue@1; raise RowRefused naming the field that cannot be used."""
    by = _spelling_of(row)
    number = number_of(row)
    page_repo, page_kind = page_of(row, by.url, number)
    pull = pull_of(row) if by is _REST else None
    is_pull = page_kind == "pull" or (pull is not None if by is _REST else _is_pull_of_gh(row))
    state = state_of(row, is_pull=is_pull)
    merged_at = (_merged_of_gh(row, state) if by is _GH else _merged_of_rest(row, state, pull)) if is_pull else None
    repo = (repository_of(row) if by is _REST else None) or page_repo or NO_REPO
    return {
        "key": f"{repo.lower()}#{number}",
        "repo": repo,
        "number": number,
        "kind": "pull_request" if is_pull else "issue",
        "title": title_of(row),
        "body": text_of(row, "body"),
        "state": state,
        "state_reason": reason_of(row, by.state_reason),
        "merged_at": merged_at,
        "draft": flag_of(row, by.draft),
        "labels": label_names(row),
        "author": login_of(row, by.author),
        "author_association": association_of(row, by.author_association),
        "created_at": instant_of(row.get(by.created_at), f"/{by.created_at}"),
        "updated_at": instant_of(row.get(by.updated_at), f"/{by.updated_at}"),
        "closed_at": instant_of(row.get(by.closed_at), f"/{by.closed_at}", optional=True) if state == "closed" else None,
        "comments": comments_of(row),
        "locked": flag_of(row, "locked"),
        "url": row.get(by.url),
    }


def _spelling_of(row: Mapping[str, Any]) -> _Spelling:
    """Return the camelCase spelling of `gh` or the one of REST; the two never meet in one export."""
    if _GH.created_at in row or _GH.updated_at in row:
        return _GH
    return _REST if _REST.created_at in row or _REST.updated_at in row or _REST.url in row else _GH


def _merged_of_rest(row: Mapping[str, Any], state: str, pull: Mapping[str, Any] | None) -> str | None:
    # The issues API nests the merge in `pull_request`; the pulls API has it on the row.
    nested = pull is not None and _REST.merged_at in pull
    place = "/pull_request/merged_at" if nested else "/merged_at"
    merged_at: str | None = instant_of((pull if nested and pull is not None else row).get(_REST.merged_at), place, optional=True)
    if merged_at and state == "open":
        raise value_refused("/state", "closed, for the row carries a merge time", "open")
    return merged_at


def _is_pull_of_gh(row: Mapping[str, Any]) -> bool:
    return _GH.merged_at in row or _GH.draft in row or row.get("state") == "MERGED"


def _merged_of_gh(row: Mapping[str, Any], state: str) -> str | None:
    merged_at: str | None = instant_of(row.get(_GH.merged_at), f"/{_GH.merged_at}", optional=True)
    if merged_at and state == "open":
        raise value_refused("/state", "CLOSED or MERGED, for the row carries a merge time", row["state"])
    if row.get("state") != "MERGED" or merged_at is not None:
        return merged_at
    if row.get(_GH.closed_at) is None:
        raise missing_refused(f"/{_GH.merged_at}")
    closed_at: str | None = instant_of(row[_GH.closed_at], f"/{_GH.closed_at}")
    return closed_at  # a merge closes at the same instant


def unsupported_findings(sample_row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (finding, missing field) for what a file of rows like this one cannot support.

    Look at one issue and one pull request: `gh` exports them with different fields.
    """
    by = _spelling_of(sample_row)
    is_pull = bool(sample_row.get("pull_request")) or _is_pull_of_gh(sample_row)
    wanted = [
        ("body", ("resolved_by_merged_pr", "superseded_pr")),
        ("labels", ("labelled_but_open", "resolved_by_merged_pr", "superseded_pr")),
        (by.author_association, ("resolved_by_merged_pr", "superseded_pr", "labelled_but_open")),
    ]
    if not is_pull:
        wanted.append((by.state_reason, ("resolved_by_merged_pr",)))
    if by is _GH and not is_pull:
        wanted.append((_GH.merged_at, ("resolved_by_merged_pr", "superseded_pr")))
    return [(finding, name) for name, findings in wanted if name not in sample_row for finding in findings]


def export_command(repo: str) -> str:
    """Return the command whose output carries every field, issues and pull requests together, one row a line."""
    return f'gh api --paginate "repos/{repo}/issues?state=all&per_page=100" --jq ".[]" > issues.jsonl'
