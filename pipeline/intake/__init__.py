"""Rows in: every row of a source becomes an item, a reject or a duplicate."""
