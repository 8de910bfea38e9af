"""The `edge-tools` command: a tree of subcommands, each in the module that does the work.

Each module has `add_arguments(parser)`, `run(args) -> int` and, optionally, EXAMPLES. Only the
chosen module is imported, so that `benchmark` and `validate` need only the board's dependencies.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import io
import logging
import os
import shlex
import sys
from collections.abc import Sequence

from edge import __version__, logs, streams
from edge.config import LogConfig
from edge.errors import EXIT_CONFIG, EXIT_FAILURE, EXIT_OK, NO_ROOM, EdgeError, one_line
from tools import json_file, model_kind

# Subcommand words, the module that serves them, and one line of help.
COMMANDS: dict[tuple[str, ...], tuple[str, str]] = {
    ("data", "import"): ("tools.data.importing", "Import COCO, VOC, YOLO or class folders."),
    ("data", "check"): ("tools.data.check", "Find what is wrong with a data set."),
    ("data", "split"): ("tools.data.split", "Divide into train, val and test."),
    ("data", "stats"): ("tools.data.stats", "Count and draw what a data set holds."),
    ("data", "preview"): ("tools.data.preview", "Draw a contact sheet with boxes."),
    ("data", "scaling"): ("tools.data.scaling", "Measure how an import scales with workers."),
    ("benchmark",): ("tools.benchmark", "Time models and the whole frame path on this machine."),
    ("soak",): ("tools.soak", "Run the daemon for a long time and check budgets."),
    ("benchmark-infer",): ("tools.benchmark.infer", "Pictures per second against alternatives."),
    ("benchmark-mqtt",): ("tools.benchmark.mqtt", "Events per second against bare paho, QoS 1."),
    ("profile",): ("tools.profile_parts", "Show where a model's time goes, part by part."),
    ("validate",): (
        "tools.validate",
        "Check that a model is integer-only and repeats its results.",
    ),
    ("train", "detect"): ("tools.train.detect", "Train the detector from labels, in float."),
    ("train", "detect-int8"): ("tools.train.detect_int8", "Adapt the detector to int8 (QAT)."),
    ("train", "color"): ("tools.train.color", "Train the color model."),
    ("train", "color-int8"): ("tools.train.color_int8", "Adapt the color model to int8 (QAT)."),
    ("train", "classifier"): ("tools.classifier.train", "Train a classifier on class folders."),
    ("quantize", "detect"): ("tools.quantize_detect", "Make the detector's int8 model folder."),
    ("quantize", "color"): ("tools.color.quantize", "Make the color model's int8 model folder."),
    ("quantize", "classifier"): ("tools.classifier.levels", "Convert a classifier to every level."),
    ("import-model",): ("tools.import_model", "Make a model folder from a third-party detector."),
    ("infer",): ("tools.infer", "Detect objects or name colors in many files, by all cores."),
    ("evaluate", "detect"): ("tools.evaluate.command", "Accuracy and speed of detectors."),
    ("evaluate", "color"): ("tools.color.evaluate", "Accuracy and calibration of a color model."),
    ("evaluate", "classifier"): ("tools.classifier.evaluate", "Accuracy and speed at all levels."),
    ("explain", "classifier"): ("tools.explain.classifier", "Where a classifier looks: HiResCAM."),
    ("explain", "detect"): ("tools.explain.detect", "What made a detection: HiResCAM."),
    ("detect", "average"): ("tools.detect_average", "Average detectors' float weights."),
    ("color", "average"): ("tools.color.average", "Average the weights of several epochs."),
    ("color", "names"): ("tools.color.name_table", "Make the daemon's table of color names."),
    ("color", "study"): ("tools.color.study.command", "Compare seven color networks."),
    ("annotate", "color"): ("tools.annotate.color", "Label colors on a page in the browser."),
    ("label", "color"): ("tools.color.auto_label", "Label colors without a person."),
    ("color", "failures"): ("tools.color.failures", "Draw a color model's mistakes by cause."),
    ("registry", "keygen"): ("tools.registry.keygen", "Make the keys that sign model versions."),
    ("registry", "push"): ("tools.registry.push", "Register a model folder as a version."),
    ("registry", "list"): ("tools.registry.list_models", "List models, versions and stages."),
    ("registry", "show"): ("tools.registry.show", "Show a version: hashes, certificate, signer."),
    ("registry", "promote"): ("tools.registry.promote", "Put a version into a stage."),
    ("registry", "pull"): ("tools.registry.pull", "Fetch a version into a folder."),
    ("registry", "remove"): (
        "tools.registry.remove",
        "Delete a version that is not in production.",
    ),
    ("demo-clip",): ("tools.make_demo_clip", "Make the clip that `edge demo` plays."),
}
GROUPS = frozenset(words[0] for words in COMMANDS if words[1:])
# Groups whose second word may be omitted if the first model's folder determines it.
GUESSED = frozenset({"evaluate", "quantize"})
# OpenCV's messages about broken pictures are silenced: we report them with the file's name.
os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
# Errors of files or folders that the user named; other OSErrors are bugs and keep their traceback.
WRONG_PLACE = (
    errno.EACCES, errno.EEXIST, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOENT,
    errno.ENOTDIR, errno.EPERM, errno.EROFS,
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code; an EdgeError becomes one line on stderr."""
    streams.fill_closed()
    code = _main(argv)
    try:
        sys.stdout.flush()
    except OSError:  # told already, or the reader of our output, such as `head`, has exited
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _main(argv: Sequence[str] | None) -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):  # file names may not be valid text
        sys.stdout.reconfigure(errors="backslashreplace")
    arguments = _with_kind(list(sys.argv[1:] if argv is None else argv))
    words = _words(arguments)
    if words not in COMMANDS:
        return _overview(arguments)
    try:
        return _run(words, arguments[len(words) :])
    except ModuleNotFoundError as error:
        return _missing(words, error)
    except EdgeError as error:
        print(f"edge-tools: {logs.redacted(one_line(error))}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        return EXIT_OK
    except OSError as error:
        reason = _os_error_text(error)
    except KeyboardInterrupt:
        reason = "stopped"
    print(f"edge-tools: {reason}; what was saved so far is kept", file=sys.stderr)
    return EXIT_FAILURE


def _os_error_text(error: OSError) -> str:
    """Return which file or folder cannot be used and the fix; re-raise any other error."""
    place = f"{error.filename}: " if error.filename else ""
    if error.errno in NO_ROOM:
        return f"{place}{os.strerror(error.errno)}; make room and start again"
    if error.errno in WRONG_PLACE and place:
        return f"{place}{os.strerror(error.errno)}; name another place"
    raise error


def _run(words: tuple[str, ...], arguments: list[str]) -> int:
    module = importlib.import_module(COMMANDS[words][0])
    parser = argparse.ArgumentParser(
        prog=f"edge-tools {' '.join(words)}",
        description=COMMANDS[words][1],
        epilog=getattr(module, "EXAMPLES", None),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    logs.add_arguments(parser, level="info")
    args = parser.parse_args(arguments)
    args.command = _command(words, arguments)
    log = logs.chosen(args, LogConfig())
    logs.set_up(log, text="%(message)s")
    _quiet_libraries(log.level)
    json_file.check(getattr(args, "json", None))
    code = int(module.run(args))
    sys.stdout.flush()  # here, so that main handles a closed pipe
    return code


def _command(words: tuple[str, ...], arguments: list[str]) -> str:
    """Return the command line, for records of how a model was made.

    Omits options that do not affect the result and may contain a password: those of logging, and
    --tracking-uri.
    """
    aside = argparse.ArgumentParser(add_help=False)
    aside.add_argument("--tracking-uri")
    logs.add_arguments(aside, level="info")
    _, kept = aside.parse_known_args(arguments)
    return shlex.join(("edge-tools", *words, *kept))


def _quiet_libraries(level: str) -> None:
    """Log INFO only from tools; from libraries and edge, only warnings and errors."""
    logging.getLogger("tools").setLevel(level.upper())
    if level == "info":
        logging.getLogger().setLevel(logging.WARNING)


def _with_kind(arguments: list[str]) -> list[str]:
    """Insert the kind of model if it was omitted: `evaluate MODEL` -> `evaluate detect MODEL`."""
    group, *rest = arguments or [""]
    if group not in GUESSED or (group, *rest[:1]) in COMMANDS:
        return arguments
    kind = model_kind.first(rest)
    return arguments if kind is None else [group, kind, *rest]


def _words(arguments: list[str]) -> tuple[str, ...]:
    """Return the leading words that name a subcommand."""
    length = 2 if arguments[:1] and arguments[0] in GROUPS else 1
    return tuple(arguments[:length])


def _overview(arguments: list[str]) -> int:
    """Let argparse print help, version or the error for words that name no subcommand."""
    parser = argparse.ArgumentParser(
        prog="edge-tools",
        description="Train, quantize, evaluate, validate and benchmark the models of edge.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="commands:\n"
        + "\n".join(f"  {' '.join(words):<19} {text}" for words, (_, text) in COMMANDS.items()),
    )
    parser.add_argument("--version", action="version", version=f"edge-tools {__version__}")
    parser.add_argument("command", metavar="COMMAND")
    parser.parse_args([text for text in arguments[:2] if text.startswith("-")] or arguments[:1])
    parser.error(f"{_unknown(arguments)}; see edge-tools --help")


def _unknown(arguments: list[str]) -> str:
    """Return the error message for words that name no subcommand."""
    group, named = arguments[0], " ".join(arguments[:2])
    kinds = ", ".join(words[1] for words in COMMANDS if words[0] == group and words[1:])
    if group in GUESSED and len(arguments) > 1:
        return f"{named}: neither a model that is here nor one of {kinds}"
    return f"unknown command {named!r}" + (f", {group} needs one of {kinds}" if kinds else "")


def _missing(words: tuple[str, ...], error: ModuleNotFoundError) -> int:
    print(
        f"edge-tools {' '.join(words)}: needs {error.name}; "
        "pip install 'edge-camera[tools]' (see tools/README.md)",
        file=sys.stderr,
    )
    return EXIT_CONFIG
