"""Whether everything holds: services, settings, and the invariants of the database."""
