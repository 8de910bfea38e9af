"""`python -m edge` and the `edge` command."""

import signal
import sys

# Imports take seconds on a slow board; Ctrl-C during them should end the process silently.
signal.signal(signal.SIGINT, signal.SIG_DFL)

from edge import cli  # noqa: E402


def main() -> int:
    """Run the command line and return its exit code, also when a camera hangs."""
    args = cli.parse()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    code = cli.execute(args)
    if "edge.capture" in sys.modules:  # `status` and others do without OpenCV, slow to import
        from edge.capture import end_process_if_hanging

        end_process_if_hanging(code)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
