"""What tests of commands share."""

from pathlib import Path

import pytest
from pipeline.startup.compose import Shop
from tests.intake_processes import environment
from tests.reader import Reader


@pytest.fixture
def reader(shop: Shop, tmp_path: Path) -> Reader:
    """Somebody who types what was printed, in the test's factory."""
    return Reader(tmp_path / "desk", environment(shop, SHOPFLOOR_TRACKER_DIR=str(shop.tracker_dir)))
