"""`python -m tools` and the `edge-tools` command."""

import signal

# Imports take a while; Ctrl-C during them should not print a traceback.
signal.signal(signal.SIGINT, signal.SIG_DFL)

from tools import cli  # noqa: E402


def main() -> int:
    """Run the command line and return its exit code."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _act_like_ctrl_c)
    return cli.main()


def _act_like_ctrl_c(number: int, frame: object) -> None:
    del frame
    signal.signal(number, signal.SIG_IGN)  # `timeout` sends two
    signal.raise_signal(signal.SIGINT)


if __name__ == "__main__":
    raise SystemExit(main())
