"""The `edge` command: arguments, exit codes, and the only package that prints."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
from collections.abc import Sequence

from edge import __version__, logs
from edge.config import LogConfig
from edge.errors import EXIT_FAILURE, EXIT_OK, NO_ROOM, EdgeError, one_line

# The module of each command. It is imported on demand, so that no command waits for the imports
# of another.
COMMANDS = {
    "run": "edge.cli.run",
    "demo": "edge.cli.demo",
    "infer": "edge.cli.infer",
    "models": "edge.cli.models",
    "check-config": "edge.cli.check.config",
    "config-schema": "edge.cli.check.schema",
    "install-service": "edge.cli.install.place",
    "uninstall-service": "edge.cli.install.remove",
    "sign-command": "edge.cli.sign",
    "status": "edge.cli.status",
    "doctor": "edge.cli.doctor",
}

EXIT_CODES = """exit codes: 0 done; 1 unexpected failure; 2 wrong usage; 3 something is wrong
(status, doctor); 4 nothing new (models pull --exit-code); 66 unreadable input; 69 spool, port or
service unavailable; 78 wrong config or model (systemd does not restart)"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    return execute(parse(argv))


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Import the named command and return its arguments; raise SystemExit for wrong usage."""
    _fill_closed_streams()
    _escape_what_cannot_be_shown()
    words = sys.argv[1:] if argv is None else argv
    named = [name for name in COMMANDS if name in words]
    return _parser(named or list(COMMANDS)).parse_args(words)


def execute(args: argparse.Namespace) -> int:
    """Run the parsed command and return its exit code; an EdgeError becomes a line on stderr."""
    code = EXIT_OK
    try:
        code = _run(args)
        sys.stdout.flush()  # here, where a closed pipe is not yet a failure
    except BrokenPipeError:  # the reader of our output, such as `head`, has ended
        _drop_output()
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        _drop_output()
        print(f"edge: output: {error.strerror}; make room", file=sys.stderr)
        return code or EXIT_FAILURE
    except KeyboardInterrupt:
        return EXIT_FAILURE
    return code


def _run(args: argparse.Namespace) -> int:
    try:
        logs.set_up(logs.chosen(args, LogConfig(level="warning")), text="%(levelname)s %(message)s")
        return int(importlib.import_module(COMMANDS[args.command]).run(args))
    except EdgeError as error:
        print(f"edge: {logs.redacted(one_line(error))}", file=sys.stderr)
        return error.exit_code


def _drop_output() -> None:
    """Discard what standard output still buffers: Python would try to write it once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fill_closed_streams() -> None:
    """Open /dev/null for closed standard streams: the next opened file would take their place."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def _escape_what_cannot_be_shown() -> None:
    """Let standard output escape what its encoding lacks (°C, …), as standard error does."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def _parser(names: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser for these commands."""
    parser = argparse.ArgumentParser(
        prog="edge",
        description="Int8 detection and color on camera boards, published over MQTT.",
        epilog=EXIT_CODES,
    )
    parser.add_argument("--version", action="version", version=f"edge {__version__}")
    logs.add_arguments(parser, level="warning; of `run`, the config's")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in names:
        module = importlib.import_module(COMMANDS[name])
        command = commands.add_parser(
            name,
            help=module.HELP,
            description=module.HELP,
            epilog=module.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
    return parser
