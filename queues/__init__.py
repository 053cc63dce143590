"""Where work waits: the database, its tables and moves, claims and leases, and the services it runs on."""
