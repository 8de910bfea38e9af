"""Reads the YAML config file strictly: wrong or unknown keys are refused with line and path."""

from __future__ import annotations

import math
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import yaml

from edge import lookup
from edge.config import HOST_PATTERN, NAME_PATTERN, PREFIX_PATTERN, TEXT_PATTERN, Config
from edge.errors import ConfigError, brief

MAX_BYTES = 250_000  # takes seconds to read on a slow board
# Second level of the device's topics that a camera's name would collide with.
RESERVED_NAMES = frozenset({"status", "info", "stats", "command", "response", "lost", "log"})

# As in edge.service and edge@.service (ConfigurationDirectory, StateDirectory).
SERVICE_CONFIGS = Path("/etc/edge")
SERVICE_STATES = Path("/var/lib")

# Keys that name a file or folder on this board.
PLACES = (
    "state_dir", "models_dir", "mqtt.password_file", "mqtt.ca_file", "mqtt.cert_file",
    "mqtt.key_file", "commands.key_file", "log.file", "metrics.textfile",
)  # fmt: skip

EVERY_HOST = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared, not listened on
MAX_DEPTH = 20
DAY_S = 86_400
MAX_FAULT_CHARS = 300
PATTERNS = {
    NAME_PATTERN: "of 1 to 64 letters, digits, _ and -",
    PREFIX_PATTERN: "of 1 to 128 letters, digits, _, - and /, without / at its end and without //",
    HOST_PATTERN: "that is a name or address alone; scheme, port and login have keys of their own",
    TEXT_PATTERN: "that is not empty",
}

ANY_KEY = "..."
_PATH_STEP = re.compile(r"\.([A-Za-z0-9_-]+)|\[(\d+|\.\.\.)\]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_NO_TEXT = re.compile(r"^Expected `str( \| null)?`, got `(int|float|bool|date|datetime)`$")
_UNKNOWN = re.compile(r"unknown field `([^`]*)`")


def load(path: Path) -> Config:
    """Return the config of a YAML file.

    Raises ConfigError with one line that gives file, line, key, fault and the known keys.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; name a readable config file") from None
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_BYTES} bytes; not an edge config")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8 text; name a YAML config file") from None
    return parse(text, str(path))


def load_of_service(path: Path) -> Config:
    """Return the config of a daemon that may run as a service, with its `state_dir` filled in.

    Commands that talk to the daemon need it. The units keep the state of /etc/edge/edge.yaml in
    /var/lib/edge and that of /etc/edge/door.yaml (edge@door) in /var/lib/edge-door. It is filled in
    only when neither the config nor the environment names the directory.
    Raises ConfigError as `load` does.
    """
    config = load(path)
    if config.state_dir is None and "STATE_DIRECTORY" not in os.environ:
        # A link into a folder that only root may look at.
        kept = SERVICE_STATES / unit(path).replace("@", "-", 1)
        if path.absolute().parent == SERVICE_CONFIGS and os.path.lexists(kept):
            return msgspec.structs.replace(config, state_dir=str(kept))
    return config


def unit(path: Path) -> str:
    """Return the unit that runs a config: `edge@door` for /etc/edge/door.yaml, else `edge`."""
    is_instance = path.absolute().parent == SERVICE_CONFIGS and path.stem != "edge"
    return f"edge@{path.stem}" if is_instance else "edge"


def parse(text: str, source: str) -> Config:
    """Return the config in `text`; `source` names it in errors.

    Raises ConfigError as `load` does.
    """
    try:
        root = _compose(text, source)
        data = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise ConfigError(f"{source}: not valid YAML: {brief(error, MAX_FAULT_CHARS)}") from None
    _refuse_infinite(data, root, source)
    fault = _validation_error(data)
    if fault is not None:
        raise ConfigError(_explain(fault, data, root, source))
    _fill_in_homes(data, root, source)
    config = msgspec.convert(data, Config, strict=True)
    _refuse_contradictions(config, source)
    return config


def _fill_in_homes(data: Any, root: yaml.Node, source: str) -> None:
    """Expand `~` and `~user` in the keys of PLACES."""
    for place in PLACES:
        *section, key = steps = place.split(".")
        text = _value_at(data, steps)
        if text is None or not text.startswith("~"):
            continue
        try:
            _value_at(data, section)[key] = str(lookup.expanded(text, ConfigError))
        except ConfigError as error:
            where = f"{source}:{_line(root, steps)}: {place}"
            raise ConfigError(f"{where}: {error}") from None


def _validation_error(data: Any) -> str | None:
    """Return msgspec's error message for decoded YAML, None when it is a valid config."""
    try:
        msgspec.convert(data, Config, strict=True)
    except msgspec.ValidationError as error:
        return str(error)
    return None


def device_name(config: Config) -> str:
    """Return the configured device name, else the host name made safe for topics."""
    if config.device is not None:
        return config.device
    return re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname().split(".")[0])[:64] or "edge"


def state_dir(config: Config) -> Path:
    """Return the daemon's state directory: configured, systemd's, or the user's.

    Raises ConfigError when the user's home folder is unknown.
    """
    if config.state_dir is not None:
        return Path(config.state_dir)
    if "STATE_DIRECTORY" in os.environ:
        return Path(os.environ["STATE_DIRECTORY"].split(":")[0])
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return lookup.expanded(base, ConfigError) / "edge"


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the config file, for editors."""
    return msgspec.json.schema(Config)


def _compose(text: str, source: str) -> yaml.Node:
    """Return the tree of nodes, for line numbers.

    Raises ConfigError when the file is not a map. It also refuses features that a config never
    needs and that could hide values or fill the memory: aliases, tags, duplicate keys, deep nesting
    and surrogates.
    """
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        line = event.start_mark.line + 1 if event.start_mark else "?"
        if isinstance(event, yaml.AliasEvent):
            raise ConfigError(f"{source}:{line}: YAML aliases are refused; repeat the value")
        if getattr(event, "tag", None) is not None:
            raise ConfigError(f"{source}:{line}: YAML tags (`!…`) are refused; leave it out")
        if depth > MAX_DEPTH:  # the parser's time grows with its square
            raise ConfigError(f"{source}:{line}: nested deeper than any key; is a bracket open?")
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(f"{source}: empty or not a map; give at least cameras.<name>.source")
    _refuse_duplicates(root, source)
    _refuse_surrogates(root, source)
    return root


def _refuse_duplicates(root: yaml.Node, source: str) -> None:
    for node in _nodes(root):
        if not isinstance(node, yaml.MappingNode):
            continue
        seen: set[str] = set()
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise ConfigError(f"{source}:{line}: a key must be one word, not a list or map")
            if key.value in seen:
                shown = brief(repr(key.value), MAX_FAULT_CHARS)
                raise ConfigError(f"{source}:{line}: key {shown} stands twice; keep one")
            seen.add(key.value)


def _refuse_surrogates(root: yaml.Node, source: str) -> None:
    """Refuse surrogates, which only an escape can produce: no file name can contain them."""
    for node in _nodes(root):
        if isinstance(node, yaml.ScalarNode) and _SURROGATE.search(node.value):
            line = node.start_mark.line + 1
            raise ConfigError(f"{source}:{line}: \\ud800 to \\udfff make no text; write it plainly")


def _nodes(root: yaml.Node) -> Iterator[yaml.Node]:
    waiting = [root]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, yaml.MappingNode):
            waiting += [child for pair in node.value for child in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value


def _refuse_infinite(data: Any, root: yaml.Node, source: str) -> None:
    """Refuse `.inf` and `.nan`, including for keys without an upper limit."""
    steps = _infinite(data)
    if steps is not None:
        where = brief(".".join(steps), MAX_FAULT_CHARS)
        raise ConfigError(f"{source}:{_line(root, steps)}: {where}: give a finite number")


def _infinite(data: Any) -> list[str] | None:
    """Return the path of the first value that is infinite or not a number."""
    if isinstance(data, float) and not math.isfinite(data):
        return []
    if isinstance(data, list):
        data = dict(enumerate(data))
    if isinstance(data, dict):
        for key, child in data.items():
            rest = _infinite(child)
            if rest is not None:
                return [str(key), *rest]
    return None


def _explain(message: str, data: Any, root: yaml.Node, source: str) -> str:
    """Return msgspec's message with file, line, readable path and the known keys."""
    fault, _, location = (
        message.rpartition(" - at `") if " - at `" in message else (message, "", "")
    )
    steps = [a or b for a, b in _PATH_STEP.findall(location)]
    is_key = location.startswith("key` in")
    steps = _name_keys(data, [*steps, ANY_KEY] if is_key else steps, message)
    unknown = _UNKNOWN.search(fault)
    if unknown:
        known = ", ".join(_known_keys(steps))
        steps = [*steps, unknown.group(1)]
        where = brief(repr(".".join(steps)), MAX_FAULT_CHARS)
        return f"{source}:{_line(root, steps)}: unknown key {where}; known here: {known}"
    where = brief(".".join(steps), MAX_FAULT_CHARS) or "the file"
    fault = _choices(steps) or _in_words(fault)
    return f"{source}:{_line(root, steps)}: {where}: {fault}{_wrong_value(data, steps)}"


def _choices(steps: list[str]) -> str:
    """Return the values that a key with a fixed set of values accepts; empty for other keys."""
    kind = _type_at(steps)
    if not isinstance(kind, msgspec.inspect.LiteralType):
        return ""
    return "Expected one of " + ", ".join(repr(value) for value in kind.values)


def _in_words(fault: str) -> str:
    """Return msgspec's error message with patterns replaced by their meaning.

    YAML reads `1`, `on` and `2024-01-01` as something else than text; then the fix is added.
    """
    if _NO_TEXT.match(fault):
        return f"{fault}; put it in quotes"
    for pattern, words in PATTERNS.items():
        fault = fault.replace(f"matching regex {pattern!r}", words)
    return brief(fault, MAX_FAULT_CHARS)


def _wrong_value(data: Any, steps: list[str]) -> str:
    """Return the wrong value as text; empty for lists, maps and values that may hold a login."""
    value = _value_at(data, steps)
    is_plain = isinstance(value, (bool, int, float, str))
    is_open = steps[-1:] not in (["source"], ["host"])
    return f"; found {value!r:.60}" if is_plain and is_open else ""


def _name_keys(data: Any, steps: list[str], message: str) -> list[str]:
    """Return the path with msgspec's `[...]` (some key of a map) replaced by the wrong key.

    A key is wrong when a config whose map has only that key gets the same message.
    """
    named: list[str] = []
    for step in steps:
        if step != ANY_KEY:
            named.append(step)
            continue
        keys = _value_at(data, named)
        for key in keys if isinstance(keys, dict) else ():
            only = _with_only(data, named, key)
            if _validation_error(only) == message:
                data = only
                named.append(str(key))
                break
    return named


def _value_at(data: Any, steps: list[str]) -> Any:
    for step in steps:
        if isinstance(data, list):
            data = data[int(step)]
        else:
            data = data.get(step) if isinstance(data, dict) else None
    return data


def _with_only(data: Any, steps: list[str], key: Any) -> Any:
    """Return a copy of nested maps in which the map at `steps` holds only `key`."""
    if not steps:
        return {key: data[key]}
    return {**data, steps[0]: _with_only(data[steps[0]], steps[1:], key)}


def _known_keys(steps: list[str]) -> list[str]:
    """Return the keys of the struct at a path of map keys."""
    return [field.encode_name for field in getattr(_type_at(steps), "fields", ())]


def _type_at(steps: list[str]) -> Any:
    """Return msgspec's description of the type at a path of keys, None when there is none."""
    current: Any = msgspec.inspect.type_info(Config)
    for step in steps:
        current = _type_of_key(current, step)
        sections = [kind for kind in getattr(current, "types", ()) if hasattr(kind, "fields")]
        current = sections[0] if sections else current  # of a section or null
    return current


def _type_of_key(current: Any, step: str) -> Any:
    for field in getattr(current, "fields", ()):
        if field.encode_name == step:
            return field.type
    return getattr(current, "value_type", None) or getattr(current, "item_type", None)


def _line(node: yaml.Node, steps: list[str]) -> int:
    """Return the 1-based line of the deepest node of a path that exists."""
    line = node.start_mark.line + 1
    for step in steps:
        child = _child_node(node, step)
        if child is None:
            return line
        line, node = child
    return line


def _child_node(node: yaml.Node, step: str) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == step:
                return key.start_mark.line + 1, value
    if isinstance(node, yaml.SequenceNode) and step.isdigit() and int(step) < len(node.value):
        child = node.value[int(step)]
        return child.start_mark.line + 1, child
    return None


def _refuse_contradictions(config: Config, source: str) -> None:
    for name, camera in config.cameras.items():
        if name in RESERVED_NAMES:
            raise ConfigError(f"{source}: cameras.{name}: the name is taken by a topic; rename it")
        if camera.retry_min_s > camera.retry_max_s:
            raise ConfigError(f"{source}: cameras.{name}: retry_min_s is larger than retry_max_s")
        if 0 < camera.fps < 1 / DAY_S:
            raise ConfigError(f"{source}: cameras.{name}: fps is less than one a day; raise it")
    if config.detector.faster_model == config.detector.model:
        raise ConfigError(f"{source}: detector.faster_model is detector.model; name a smaller one")
    if config.mqtt.retry_min_s > config.mqtt.retry_max_s:
        raise ConfigError(f"{source}: mqtt: retry_min_s is larger than retry_max_s")
    hosts = {config.web.host, config.metrics.host}
    is_shared = len(hosts) == 1 or hosts & EVERY_HOST
    if config.web.enabled and is_shared and config.web.port == config.metrics.port:
        raise ConfigError(f"{source}: web.port and metrics.port are one; choose another for one")
    if config.mqtt.key_file and not config.mqtt.cert_file:
        raise ConfigError(f"{source}: mqtt.key_file is given without mqtt.cert_file; give both")
