"""The cells that this process can run: each a folder, loaded once, matched to its published contract by hash."""

import importlib.util
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from traceback import extract_tb

from contracts.errors import BadContract, NotFound
from contracts.language import CellSource, Contract, load_cell_folder
from contracts.lifecycle import Stage, lane_of
from workcells.api import CellCode

BUILT_IN = Path(__file__).parent / "cells"
"""Folder whose sub-folders with a contract.yaml are the cells that ship with shopfloor."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One runnable cell: its source folder and its code."""

    source: CellSource
    code: CellCode

    @property
    def contract(self) -> Contract:
        """The contract as the folder states it; what runs is the published row with the same hash."""
        return self.source.contract


def folders(*roots: Path) -> list[Path]:
    """Return the cell folders under `roots`, by name."""
    return sorted(path.parent for root in roots for path in root.glob("*/contract.yaml"))


def load_cell(folder: Path) -> Cell:
    """Return the cell of a folder. Raises BadContract when it has no code, or not one marked function."""
    source = load_cell_folder(folder)
    if source.code_path is None:
        raise BadContract(f"{folder} has no cell.py: a cell without code needs a model lane, which this floor does not have")
    # A name of its own under `workcells.`, so that a folder elsewhere cannot shadow a module of ours.
    name = f"workcells.cells.{folder.name}.cell" if folder.parent == BUILT_IN else f"shopfloor_cell_{folder.name}"
    spec = importlib.util.spec_from_file_location(name, source.code_path)
    if spec is None or spec.loader is None:
        raise BadContract(f"{source.code_path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        line = next((frame.lineno for frame in reversed(extract_tb(error.__traceback__)) if frame.filename == str(source.code_path)), None)
        at = f" line {getattr(error, 'lineno', None) or line}" if line or getattr(error, "lineno", None) else ""
        raise BadContract(f"{source.code_path}{at} cannot be imported: {type(error).__name__}: {error}") from error
    marked = [value for value in vars(module).values() if isinstance(value, CellCode)]
    if len(marked) != 1:
        raise BadContract(f"{source.code_path} marks {len(marked)} functions with @cell: exactly one does the job")
    return Cell(source, marked[0])


class Registry:
    """Cells by the hash of their contract: a worker runs an item only with the very contract it is pinned to."""

    def __init__(self, cells: Iterable[Cell]) -> None:
        self.by_sha256 = {cell.contract.sha256: cell for cell in cells}
        newest_last = sorted(self.by_sha256.values(), key=lambda cell: cell.contract.version)
        self.by_name = {cell.contract.name: cell for cell in newest_last}
        """The newest version of each cell: what new work is routed to."""

    @property
    def hashes(self) -> list[bytes]:
        """The hashes of all contracts that this process has the code for."""
        return [bytes.fromhex(sha256) for sha256 in self.by_sha256]

    @property
    def waiting_lanes(self) -> frozenset[str]:
        """The lanes of cells that wait for others: many of their items are worked on at a time."""
        return frozenset(lane_of(Stage.WORKCELL, cell=cell.contract.name) for cell in self.by_sha256.values() if cell.contract.waits)

    def hashes_of(self, cell: str) -> list[bytes]:
        """Return the hashes of the contracts of one cell that this process has the code for, the newest version first."""
        found = [one.contract for one in self.by_sha256.values() if one.contract.name == cell]
        return [bytes.fromhex(one.sha256) for one in sorted(found, key=lambda one: one.version, reverse=True)]

    def runs(self, contract_sha256: str) -> Cell:
        """Return the cell for a pinned contract. Raises NotFound when this process has no code for it."""
        try:
            return self.by_sha256[contract_sha256]
        except KeyError:
            raise NotFound(f"this worker has no cell for contract {contract_sha256[:12]}…; deploy the version it was pinned to") from None
