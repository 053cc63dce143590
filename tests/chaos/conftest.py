"""The plant: real processes over a database of the test's own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pipeline.startup.compose import Shop
from tests.chaos.plant import Plant


@pytest.fixture
def plant(shop: Shop, tmp_path: Path) -> Iterator[Plant]:
    """A plant on the suite's services, with both flows published and nobody hired."""
    found = Plant(shop, tmp_path)
    found.publish()
    yield found
    found.dismiss()
