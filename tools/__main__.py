"""`python -m tools` and the `edge-tools` command."""

import signal

# Imports take a while; Ctrl-C during them should not print a traceback.
signal.signal(signal.SIGINT, signal.SIG_DFL)

from tools import cli  # noqa: E402


def main() -> int:
    """Run the command line and return its exit code."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return cli.main()


if __name__ == "__main__":
    raise SystemExit(main())
