"""What the long runs share: a plant on servers of its own, lives without number, and the tally of a run."""

import contextlib
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
from pipeline.failpoints import POINTS
from pipeline.startup.compose import open_shop
from pipeline.startup.settings import Settings
from pipeline.startup.setup import set_up
from queues.embedded import inspect, stop
from tests.chaos.plant import FLOOR, Plant

POINTS_OF_WORKERS = tuple(name for name in POINTS if not name.startswith(("intake.", "sweep.", "apply.")))
POINTS_OF_APPLY = tuple(name for name in POINTS if name.startswith("apply."))

SKEWED = """
import datetime, sys, time
shift = float(sys.argv.pop(1))
true_time, true_datetime = time.time, datetime.datetime
time.time = lambda: true_time() + shift
class Skewed(true_datetime):
    @classmethod
    def now(cls, tz=None):
        return true_datetime.now(tz) + datetime.timedelta(seconds=shift)
    @classmethod
    def utcnow(cls):
        return true_datetime.utcnow() + datetime.timedelta(seconds=shift)
datetime.datetime = Skewed
import runpy
sys.argv[0] = "console"
runpy.run_module("console", run_name="__main__")
"""
"""A process whose wall clock is off. Durations are measured by the monotonic clock, which no skew touches."""


@contextlib.contextmanager
def own_plant(folder: Path, **settings: object) -> Iterator[Plant]:
    """A plant whose PostgreSQL and Valkey belong to this test alone."""
    data_dir = folder / "d"
    floor = folder / "floor.yaml"
    floor.write_text(FLOOR)
    shop = open_shop(Settings(data_dir=data_dir, tracker_dir=folder / "tracker", floor=floor))
    set_up(shop)
    plant = Plant(shop, folder, floor=floor, **settings)
    try:
        yield plant
    finally:
        plant.dismiss()
        for process in crew_of(plant):
            with contextlib.suppress(psutil.Error):
                process.kill()
        for name in ("postgres", "valkey"):
            with contextlib.suppress(StopIteration, psutil.Error):
                server(plant, name).resume()
        stop(data_dir)


def server(plant: Plant, name: str) -> psutil.Process:
    """Return the running server of that name."""
    state = next(one for one in inspect(plant.shop.data_dir).servers if one.name == name)
    if state.pid is None:
        raise StopIteration
    return psutil.Process(state.pid)


def is_up(plant: Plant, name: str) -> bool:
    """True when the server answers."""
    return any(state.name == name and state.is_answering for state in inspect(plant.shop.data_dir).servers)


def crew_of(plant: Plant) -> list[psutil.Process]:
    """Return the processes of the crew that `up` left running on this plant's data folder."""
    mine = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("SHOPFLOOR_DATA_DIR") == str(plant.shop.data_dir) and "console" in process.cmdline():
                mine.append(process)
    return mine


def schedule(seed: int, points: tuple[str, ...], lives: int) -> list[str]:
    """Return the faults of that many lives: some accidents, then a kill, each at a random passing of a random point."""
    choose = random.Random(seed)
    faults = []
    for _ in range(lives):
        accidents = choose.sample(points, 2)
        fatal = choose.choice([point for point in points if point not in accidents])
        armed = [f"{point}:raise:{choose.randint(1, 6)}" for point in accidents]
        faults.append(",".join([*armed, f"{fatal}:kill:{choose.randint(1, 8)}"]))
    return faults


def skewed(seconds: float) -> list[str]:
    """Return the start of a command line that runs shopfloor with its wall clock off."""
    return [sys.executable, "-P", "-c", SKEWED, str(seconds)]
