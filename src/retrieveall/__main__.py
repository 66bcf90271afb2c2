"""``python -m retrieveall``: the command line without the console script."""

from __future__ import annotations

from retrieveall.cli import main

if __name__ == "__main__":
    main()
