"""The process that claims a batch, runs its stages and commits the outcomes."""
