"""Rows out of files and streams, checked one by one, with the place of each."""

from pipeline.sources.rows import BadRow, Limits, Row
from pipeline.sources.source import Source, open_source

__all__ = ["BadRow", "Limits", "Row", "Source", "open_source"]
