"""The supervised processes of `up`, and the users that keep them apart."""
