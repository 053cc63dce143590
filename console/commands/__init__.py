"""One module per family of verbs."""
