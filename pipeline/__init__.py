"""How an item travels: one module per stage, and what feeds and surrounds them."""
