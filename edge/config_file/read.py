"""Reads the YAML config file strictly: wrong or unknown keys are refused with line and path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import yaml

from edge import lookup
from edge.config import Config
from edge.config_file import strict_yaml
from edge.config_file.explain import explain, fault_of
from edge.errors import ConfigError

MAX_BYTES = 250_000  # takes seconds to read on a slow board
# Second level of the device's topics that a camera's name would collide with.
RESERVED_NAMES = frozenset({"status", "info", "stats", "command", "response", "lost", "log"})

# Keys that name a file or folder on this board.
PLACES = (
    "state_dir", "models_dir", "mqtt.password_file", "mqtt.ca_file", "mqtt.cert_file",
    "mqtt.key_file", "commands.key_file", "log.file", "metrics.textfile",
)  # fmt: skip

EVERY_HOST = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared, not listened on
DAY_S = 86_400


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


def parse(text: str, source: str) -> Config:
    """Return the config in `text`; `source` names it in errors.

    Raises ConfigError as `load` does.
    """
    data, root = strict_yaml.read(text, source)
    fault = fault_of(data)
    if fault is not None:
        raise ConfigError(explain(fault, data, root, source))
    _fill_in_homes(data, root, source)
    config = msgspec.convert(data, Config, strict=True)
    _refuse_contradictions(config, source)
    return config


def _fill_in_homes(data: Any, root: yaml.Node, source: str) -> None:
    """Expand `~` and `~user` in the keys of PLACES."""
    for place in PLACES:
        *section, key = steps = place.split(".")
        text = strict_yaml.value_at(data, steps)
        if text is None or not text.startswith("~"):
            continue
        try:
            strict_yaml.value_at(data, section)[key] = str(lookup.expanded(text, ConfigError))
        except ConfigError as error:
            where = f"{source}:{strict_yaml.line_of(root, steps)}: {place}"
            raise ConfigError(f"{where}: {error}") from None


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the config file, for editors."""
    return msgspec.json.schema(Config)


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
