"""Says what is wrong in a config: msgspec's message with line, readable path and the known keys."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import yaml

from edge.config import (
    HOST_PATTERN,
    NAME_PATTERN,
    PIXEL_FORMAT_PATTERN,
    PREFIX_PATTERN,
    TEXT_PATTERN,
    Config,
)
from edge.config_file.strict_yaml import MAX_FAULT_CHARS, line_of, value_at
from edge.errors import brief

PATTERNS = {
    NAME_PATTERN: "of 1 to 64 letters, digits, _ and -",
    PREFIX_PATTERN: "of 1 to 128 letters, digits, _, - and /, without / at its end and without //",
    HOST_PATTERN: "that is a name or address alone; scheme, port and login have keys of their own",
    TEXT_PATTERN: "that is not empty",
    PIXEL_FORMAT_PATTERN: "of four characters, such as MJPG or YUYV",
}

ANY_KEY = "..."
_PATH_STEP = re.compile(r"\.([A-Za-z0-9_-]+)|\[(\d+|\.\.\.)\]")
_NO_TEXT = re.compile(r"^Expected `str( \| null)?`, got `(int|float|bool|date|datetime)`$")
_UNKNOWN = re.compile(r"unknown field `([^`]*)`")


def fault_of(data: Any) -> str | None:
    """Return msgspec's error message for a decoded file, None when it is a valid config."""
    try:
        msgspec.convert(data, Config, strict=True)
    except msgspec.ValidationError as error:
        return str(error)
    return None


def explain(message: str, data: Any, root: yaml.Node, source: str) -> str:
    """Return msgspec's message with file, line, readable path and the known keys.

    message: what `fault_of` returned for `data`, whose tree is `root`; source: the file's name.
    """
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
        return f"{source}:{line_of(root, steps)}: unknown key {where}; known here: {known}"
    where = brief(".".join(steps), MAX_FAULT_CHARS) or "the file"
    fault = _choices(steps) or _in_words(fault)
    return f"{source}:{line_of(root, steps)}: {where}: {fault}{_wrong_value(data, steps)}"


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
    value = value_at(data, steps)
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
        keys = value_at(data, named)
        for key in keys if isinstance(keys, dict) else ():
            only = _with_only(data, named, key)
            if fault_of(only) == message:
                data = only
                named.append(str(key))
                break
    return named


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
