"""Let ``python -m merganser`` be the command line."""

from merganser.cli import main

main()
