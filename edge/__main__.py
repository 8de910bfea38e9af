"""`python -m edge` and the `edge` command."""

from edge import cli
from edge.capture import end_process_if_hanging


def main() -> int:
    """Run the command line and return its exit code, also when a camera hangs."""
    code = cli.main()
    end_process_if_hanging(code)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
