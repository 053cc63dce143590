"""`python -m console` is `shopfloor`."""

from console import main

main()
