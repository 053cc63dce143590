"""The load generator that ships with shopfloor: the reference work through the real stages, workers and guards."""
