"""`python -m edge` and the `edge` command."""

from edge.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
