import pytest
from tests.line import Road, issue, merged
def test_try(road, cli):
    road.take_in([issue(1), merged(2, fixes=1), issue(3, title="Other thing here"), merged(4, fixes=3)], as_of=__import__("datetime").datetime(2025,6,1,tzinfo=__import__("datetime").timezone.utc))
    road.run()
    for args in (["review","inbox"],["review","next"],["review","show","acme/widgets#1"],["review","inbox","--json"],["review","approve","--finding","resolved_by_merged_pr","--dry-run"],["review","approve","--finding","resolved_by_merged_pr","--yes"],["review","inbox"],["review","show","acme/widgets#1"]):
        r = cli(*args); print("$", *args, r.exit_code); print(r.stdout); print(r.stderr)
    road.run(); print(road.states())
