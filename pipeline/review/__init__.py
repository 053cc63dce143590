"""Clearances: what waits for a reviewer, the decisions, and what became of them."""
