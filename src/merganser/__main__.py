"""Let ``python -m merganser`` be the command line."""

from merganser.cli import main

# A process that multiprocessing starts imports this too, under another name.
if __name__ == "__main__":
    main()
