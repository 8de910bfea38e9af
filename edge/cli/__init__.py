"""The `edge` command: arguments, exit codes, and the only place of the daemon that prints."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from edge import __version__, logs
from edge.cli import check, demo, doctor, infer, install, models, run, sign, status
from edge.cli.progress import one_line
from edge.errors import EXIT_FAILURE, EXIT_OK, EdgeError

COMMANDS: dict[str, ModuleType] = {
    "run": run,
    "demo": demo,
    "infer": infer,
    "models": models,
    "check-config": check.config,
    "config-schema": check.schema,
    "install-service": install.place,
    "uninstall-service": install.remove,
    "sign-command": sign,
    "status": status,
    "doctor": doctor,
}

EXIT_CODES = """exit codes: 0 done; 1 unexpected failure; 2 wrong usage; 3 something is wrong
(status, doctor); 66 unreadable input; 69 camera, spool, port or daemon unavailable;
78 wrong config or model (systemd does not restart)"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; an EdgeError becomes one line on stderr."""
    _fill_closed_streams()
    parser = _parser()
    args = parser.parse_args(argv)
    try:
        logs.set_up(logs.chosen(args), text="%(levelname)s %(message)s")
        code = int(COMMANDS[args.command].run(args))
        sys.stdout.flush()  # here, where a closed pipe is still no failure
    except EdgeError as error:
        print(f"edge: {one_line(error)}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # the reader of our output, such as `head`, has gone
        _drop_output()
        return EXIT_OK
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _drop_output()
        print(f"edge: output: {error.strerror}; make room", file=sys.stderr)
        return EXIT_FAILURE
    except KeyboardInterrupt:
        return EXIT_FAILURE
    return code


def _drop_output() -> None:
    """Let what is still buffered for standard output go nowhere: Python would try it once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fill_closed_streams() -> None:
    """Point closed standard streams to nowhere: the next file opened would take their place."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edge",
        description="Int8 detection and color on camera boards, published over MQTT.",
        epilog=EXIT_CODES,
    )
    parser.add_argument("--version", action="version", version=f"edge {__version__}")
    logs.add_arguments(parser, level="warning")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=module.HELP,
            description=module.HELP,
            epilog=module.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
    return parser
