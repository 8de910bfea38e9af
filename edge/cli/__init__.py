"""The `edge` command: arguments, exit codes, and the only package that prints."""

from __future__ import annotations

import argparse
import importlib
import io
import logging
import os
import sys
from collections.abc import Sequence

from edge import __version__, logs, streams
from edge.config import LogConfig
from edge.errors import EXIT_FAILURE, EXIT_OK, NO_ROOM, EdgeError, one_line

# The module of each command, and what it does. Only the named one is imported: that of another
# would cost seconds on a slow board.
COMMANDS = {
    "run": (
        "edge.cli.run",
        "Run the daemon in the foreground; systemd or a terminal may stop it with a signal.",
    ),
    "demo": (
        "edge.cli.demo",
        "Show the whole path: clip or camera, daemon, MQTT broker, subscriber.",
    ),
    "infer": ("edge.cli.infer", "Detect objects, or name colors, in images, folders and videos."),
    "models": (
        "edge.cli.models",
        "List and check the installed models; pull signed versions from a registry.",
    ),
    "check-config": (
        "edge.cli.check.config",
        "Check a config file and the models, password and certificates it names.",
    ),
    "config-schema": ("edge.cli.check.schema", "Print the JSON Schema of the config file."),
    "install-service": (
        "edge.cli.install.place",
        "Place the systemd service and a first config on this board and start it; idempotent.",
    ),
    "uninstall-service": (
        "edge.cli.install.remove",
        "Stop and remove the systemd service; config and state stay unless --purge is given.",
    ),
    "sign-command": (
        "edge.cli.sign",
        "Sign a command for a device with commands.key_file; print what to publish.",
    ),
    "status": ("edge.cli.status", "Ask the running daemon how it is."),
    "doctor": ("edge.cli.doctor", "Check all that the daemon depends on, and name the fixes."),
}

EXIT_CODES = """exit codes: 0 done; 1 unexpected failure; 2 wrong usage; 3 something is wrong
(status, doctor); 4 nothing new (models pull --exit-code); 66 unreadable input; 69 spool, port or
service unavailable; 78 wrong config or model (systemd does not restart)"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    return execute(parse(argv))


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Import the named command and return its arguments; raise SystemExit for wrong usage."""
    streams.fill_closed()
    _escape_what_cannot_be_shown()
    words = sys.argv[1:] if argv is None else argv
    return _parser(words).parse_args(words)


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
        return int(importlib.import_module(COMMANDS[args.command][0]).run(args))
    except EdgeError as error:
        text = f"edge: {logs.redacted(one_line(error))}"
        print(logs.for_stderr(text, logging.ERROR), file=sys.stderr)
        return error.exit_code


def _drop_output() -> None:
    """Discard what standard output still buffers: Python would try to write it once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _escape_what_cannot_be_shown() -> None:
    """Let standard output escape what its encoding lacks (°C, …), as standard error does."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser; of commands that `words` do not name, it knows no arguments."""
    parser = argparse.ArgumentParser(
        prog="edge",
        description="Int8 detection and color on camera boards, published over MQTT.",
        epilog=EXIT_CODES,
    )
    parser.add_argument("--version", action="version", version=f"edge {__version__}")
    logs.add_arguments(parser, level="warning; of `run`, the config's")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (module_name, text) in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=text,
            description=text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if name in words:
            module = importlib.import_module(module_name)
            command.epilog = module.EXAMPLES
            module.add_arguments(command)
    return parser
