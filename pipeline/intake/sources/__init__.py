"""Rows out of files and streams, checked one by one, with the place of each."""

from pipeline.intake.sources.rows import BadRow, Limits, Row
from pipeline.intake.sources.source import Source, open_source

__all__ = ["BadRow", "Limits", "Row", "Source", "open_source"]
