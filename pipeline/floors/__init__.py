"""Contracts and floors as versioned rows: publish, read, the one in force."""
