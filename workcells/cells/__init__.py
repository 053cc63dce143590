"""The cells that ship, a folder each."""
