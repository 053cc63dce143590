"""Who may act: actors, tokens, and what a command may do as whom."""
