"""Coverage-guided fuzzing (atheris) of untrusted input: `make fuzz`, or

    python tests/fuzz.py commands -runs=100000

Targets: `commands` (name and payload of an MQTT command, with and without a key), `config` (YAML)
and `model` (a .tflite file). Input is answered or refused in one line; anything else is a finding.
Needs atheris (`pip install atheris`; x86-64).
"""

from __future__ import annotations

import logging
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["edge"]):
    from edge import certificate, config_file
    from edge.config import CommandsConfig
    from edge.errors import ConfigError
    from edge.messages import COMMANDS, Topics
    from edge.messages.signing import sign
    from edge.service.commands import CommandDesk
    from edge.service.permission import Permission

NAMES = (*COMMANDS, "", "../reload", "dance")
KEY = b"0123456789abcdef0123456789abcdef"
TOPICS = Topics("edge", "gate")


def one_line(text: str | None) -> None:
    if text is None or "\n" in text or len(text) > 1000:
        raise AssertionError(f"not one short line: {text!r}")


def desks(folder: Path) -> list[tuple[CommandDesk, list[object]]]:
    """A command desk without a key and one with a key, each with what it executed."""
    (folder / "key").write_bytes(KEY)
    found = []
    for key_file in (None, str(folder / "key")):
        acted: list[object] = []
        permission = Permission(CommandsConfig(key_file=key_file), TOPICS, folder)
        desk = CommandDesk(
            permission, pause=acted.append, resume=acted.append, set_thresholds=acted.append,
            snapshot=acted.append, reload=acted.append,
        )  # fmt: skip
        found.append((desk, acted))
    return found


def commands(folder: Path) -> Callable[[bytes], None]:
    (open_desk, open_acted), (keyed_desk, keyed_acted) = desks(folder)

    def test(data: bytes) -> None:
        name, payload = NAMES[data[0] % len(NAMES) if data else 0], data[1:]
        open_acted.clear()
        answer = open_desk.answer(name, payload)
        if (answer.status == "ok") != (len(open_acted) == 1):
            raise AssertionError(f"{answer} after {len(open_acted)} acts")
        if answer.status != "ok":
            one_line(answer.error)
        one_line(keyed_desk.answer(name, payload).error)
        if keyed_acted:
            raise AssertionError("executed without the key")

    return test


def config(_folder: Path) -> Callable[[bytes], None]:
    def test(data: bytes) -> None:
        try:
            config_file.parse(data.decode("utf-8", "replace"), "fuzz.yaml")
        except ConfigError as error:
            one_line(str(error))

    return test


def model(_folder: Path) -> Callable[[bytes], None]:
    def test(data: bytes) -> None:
        try:
            certificate.violations(certificate.read_graph(data))
        except ValueError as error:
            one_line(str(error))

    return test


TARGETS = {"commands": commands, "config": config, "model": model}
HERE = Path(__file__).parent


def seeds(target: str) -> list[bytes]:
    """Valid inputs as seeds of the fuzzer."""
    if target == "config":
        return [path.read_bytes() for path in (HERE.parent / "systemd").glob("*.yaml")]
    if target == "model":
        return [(HERE / "data" / name).read_bytes() for name in ("color.tflite", "custom.tflite")]
    bodies = (
        '{"camera":"front","for_s":60,"transaction":"t1"}',
        '{"min_score":0.4,"labels":{"person":0.6}}',
        "",
    )
    signed = [sign(KEY, TOPICS.command("pause"), 1, body) for body in bodies]
    return [bytes([n]) + body for n in range(8) for body in (*map(str.encode, bodies), *signed)]


def write_seeds(target: str, folder: Path) -> str:
    """The corpus's folder, as libFuzzer wants it."""
    folder.mkdir()
    for number, seed in enumerate(seeds(target)):
        (folder / str(number)).write_bytes(seed)
    return str(folder)


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        raise SystemExit(f"usage: fuzz.py {'|'.join(TARGETS)} [libFuzzer options]")
    with tempfile.TemporaryDirectory() as scratch:
        logging.disable()
        name, folder = sys.argv[1], Path(scratch)
        arguments = [sys.argv[0], *sys.argv[2:], write_seeds(name, folder / "corpus")]
        atheris.Setup(arguments, TARGETS[name](folder))
        atheris.Fuzz()
