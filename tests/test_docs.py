"""The documentation names all commands, topics, keys and codes; its links and examples work."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from edge import cli, config, config_file, errors, messages
from edge.config import Config
from edge.values import EventKind, SkipCause
from tools import cli as tools_cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
GUIDE = (ROOT / "tools" / "README.md").read_text()
EXAMPLE = ROOT / "systemd" / "edge.example.yaml"
DOCUMENTS = sorted(ROOT.glob("*.md")) + sorted(
    file
    for name in ("edge", "models", "systemd", "tests", "tools")
    for file in (ROOT / name).rglob("*.md")
)
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
# What an example sets to something else than its default, to show it.
SHOWN = {"device", "state_dir", "cameras", "detector.labels"}


@pytest.mark.parametrize("command", sorted(cli.COMMANDS))
def test_readme_names_every_edge_command(command: str) -> None:
    assert f"`edge {command}" in README


@pytest.mark.parametrize("words", sorted(tools_cli.COMMANDS))
def test_docs_name_every_tools_command(words: tuple[str, ...]) -> None:
    assert re.search(rf"(edge-tools|python -m tools) {' '.join(words)}", README + GUIDE)


@pytest.mark.parametrize("command", sorted(messages.COMMANDS))
def test_readme_names_every_mqtt_command(command: str) -> None:
    assert f"| `{command}` |" in README


@pytest.mark.parametrize(
    "topic",
    ["status", "info", "events", "state", "detections", "stats", "lost", "command", "response"],
)
def test_readme_names_every_topic(topic: str) -> None:
    assert re.search(rf"`…/(<camera>/)?{topic}", README)


@pytest.mark.parametrize("value", [*SkipCause, *EventKind])
def test_readme_names_every_skip_cause_and_event_kind(value: str) -> None:
    assert f"`{value}`" in README


def test_readme_has_every_exit_code() -> None:
    codes = [value for name, value in vars(errors).items() if name.startswith("EXIT_")]
    assert all(f"| {code} |" in README for code in codes)


def test_readme_names_every_make_target() -> None:
    targets = re.findall(r"^([a-z0-9-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)
    text = README + GUIDE + (ROOT / "ARCHITECTURE.md").read_text()
    named = {*re.findall(r"make ([a-z0-9-]+)", text), "setup", "demo", "test", "check", "bench"}
    assert set(targets) - named <= {"help", "format", "clean"}


def test_readme_event_is_a_valid_event() -> None:
    (block,) = re.findall(r"An event:\n\n```json\n(.*?)```", README, re.DOTALL)
    assert msgspec.json.decode(block, type=messages.Event).kind == "new"


@pytest.mark.parametrize(
    "payload",
    [
        messages.Status, messages.Info, messages.ModelInfo, messages.CameraState,
        messages.Detections, messages.Stats, messages.CameraStats, messages.MqttStats,
        messages.SpoolStats,
        messages.LostRange, messages.Response,
    ],
)  # fmt: skip
def test_readme_names_every_key_of_a_payload(payload: type[msgspec.Struct]) -> None:
    keys = {field.encode_name for field in msgspec.structs.fields(payload)}
    assert {key for key in keys if f"`{key}`" not in README} == set()


def test_log_events_that_the_readme_quotes_exist() -> None:
    code = "".join(file.read_text() for file in (ROOT / "edge").rglob("*.py"))
    quoted = re.findall(r"`([a-z]+\.[a-z_]+) \w+=", README)
    assert quoted
    assert [event for event in quoted if f'"{event} ' not in code] == []


def test_readme_yaml_is_a_valid_config() -> None:
    for block in re.findall(r"```yaml\n(.*?)```", README, re.DOTALL):
        assert config_file.parse(block, "README").cameras


def test_example_config_is_valid_and_complete() -> None:
    config_file.load(EXAMPLE)
    shown = yaml.safe_load(EXAMPLE.read_text())
    cameras = {"front": config.CameraConfig(source=0)}
    defaults = json.loads(msgspec.json.encode(Config(cameras=cameras)))  # lists, as YAML has
    assert set(shown) == set(defaults)
    assert set(shown["cameras"]["front"]) == set(defaults["cameras"]["front"])
    assert set(shown["detector"]["labels"]["car"]) == {
        field.name for field in msgspec.structs.fields(config.LabelConfig)
    }
    for section, keys in _flat(defaults).items():
        if section not in SHOWN and not section.startswith("cameras"):
            assert _flat(shown)[section] == keys, section


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted keys of two levels."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and not prefix:
            found |= _flat(value, f"{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def test_readme_infer_output_has_the_shape_of_the_command() -> None:
    (block,) = re.findall(r'```json\n(\[\{"file".*?)```', README, re.DOTALL)
    (entry,) = json.loads(block)
    assert set(entry) == {"file", "width", "height", "detections"}


def test_readme_names_every_shipped_model() -> None:
    text = README + (ROOT / "CHANGELOG.md").read_text()
    for folder in (ROOT / "models").iterdir():
        assert folder.name in text


def _name(file: Path) -> str:
    return str(file.relative_to(ROOT))


def _anchors(file: Path) -> set[str]:
    """The anchors that GitHub gives to a file's headings."""
    text = re.sub(r"^```.*?^```", "", file.read_text(), flags=re.DOTALL | re.MULTILINE)
    found: set[str] = set()
    times: Counter[str] = Counter()
    for heading in re.findall(r"^#+ +(.+?) *$", text, re.MULTILINE):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", shown).replace(" ", "-")
        found.add(f"{anchor}-{times[anchor]}" if times[anchor] else anchor)
        times[anchor] += 1
    return found


def _is_broken(link: str, document: Path) -> bool:
    path, _, anchor = link.partition("#")
    target = document.parent / path if path else document
    return not target.exists() or (anchor != "" and anchor not in _anchors(target))


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_internal_links_and_anchors_exist(document: Path) -> None:
    links = LINK.findall(CODE.sub("", document.read_text()))
    internal = [link for link in links if not re.match(r"[a-z]+:", link)]
    assert [link for link in internal if _is_broken(link, document)] == []


@pytest.mark.parametrize(
    "document",
    [file for file in DOCUMENTS if file.name not in ("CHANGELOG.md", "CARD.md")],
    ids=_name,
)
def test_named_source_files_exist(document: Path) -> None:
    named = re.findall(r"`((?:edge|tools|tests|systemd)/[\w/.-]+\.\w+)`", document.read_text())
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("record", sorted((ROOT / "tools").glob("experiments-*.md")), ids=_name)
def test_guide_and_readme_link_every_record_of_experiments(record: Path) -> None:
    assert f"(tools/{record.name})" in README
    assert f"({record.name})" in GUIDE


@pytest.mark.parametrize("package", ["edge", "tools"])
def test_architecture_names_every_module(package: str) -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    names = {file.stem for file in (ROOT / package).glob("[!_]*.py")}
    names |= {file.parent.name for file in (ROOT / package).glob("*/__init__.py")}
    assert {name for name in names if f"`{name}`" not in text} == set()
