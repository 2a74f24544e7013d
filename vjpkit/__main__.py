"""``python -m vjpkit``: the command line."""

from vjpkit.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
