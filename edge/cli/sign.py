"""`edge sign-command`: makes the payload of a command for a device that requires a key."""

from __future__ import annotations

import argparse
import re
import time
from pathlib import Path

import msgspec

from edge.errors import EXIT_OK
from edge.messages.signing import read_key, sign

EXAMPLES = """examples:
  topic=edge/gate/command/pause
  mosquitto_pub -q 1 -t $topic -m "$(edge sign-command --key-file key $topic '{"for_s": 60}')"

It is obeyed once, on this topic only, within the device's commands.max_age_s from now."""

_COMMAND_TOPIC = re.compile(r"[^+#\n]+/[^+#/\n]+/command/[^+#/\n]+")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--key-file", type=Path, required=True, metavar="FILE")
    parser.add_argument(
        "topic", type=_command_topic, metavar="TOPIC", help="<prefix>/<device>/command/<name>"
    )
    parser.add_argument(
        "payload", type=_json, nargs="?", default="", metavar="JSON", help="default: empty"
    )


def run(args: argparse.Namespace) -> int:
    """Print the signed payload; raise ConfigError when the key cannot be used."""
    key = read_key(args.key_file)
    print(sign(key, args.topic, time.time_ns() // 1_000_000, args.payload).decode())
    return EXIT_OK


def _command_topic(word: str) -> str:
    if not _COMMAND_TOPIC.fullmatch(_utf8_text(word)):
        raise argparse.ArgumentTypeError(f"{word!r} is not <prefix>/<device>/command/<name>")
    return word


def _json(word: str) -> str:
    try:
        msgspec.json.decode(_utf8_text(word) or "{}")
    except msgspec.DecodeError as error:
        raise argparse.ArgumentTypeError(f"{word!r}: {error}; quote it for the shell") from None
    return word


def _utf8_text(word: str) -> str:
    try:
        word.encode()
    except UnicodeEncodeError:  # Python decodes invalid UTF-8 arguments to surrogates
        raise argparse.ArgumentTypeError(f"{word!r} is not UTF-8") from None
    return word
