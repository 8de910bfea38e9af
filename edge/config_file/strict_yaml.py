"""Reads YAML strictly: the value, and the tree of nodes, from which a key's line is known.

What a config never needs and what could hide values or fill the memory is refused: aliases, tags,
duplicate keys, deep nesting, surrogates, infinite numbers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import yaml

from edge.errors import ConfigError, brief

MAX_DEPTH = 20
MAX_FAULT_CHARS = 300
_SURROGATE = re.compile("[\ud800-\udfff]")


def read(text: str, source: str) -> tuple[dict[Any, Any], yaml.Node]:
    """Return the map in `text`, and its tree for `line_of`; `source` names it in errors.

    Raises ConfigError with one line that gives source, line and fault.
    """
    try:
        _refuse_features(text, source)
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        if not isinstance(root, yaml.MappingNode):
            raise ConfigError(f"{source}: empty or not a map; give at least cameras.<name>.source")
        _refuse_duplicates(root, source)
        _refuse_surrogates(root, source)
        data = loader.construct_document(root)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise ConfigError(f"{source}: not valid YAML: {brief(error, MAX_FAULT_CHARS)}") from None
    _refuse_infinite(data, root, source)
    return data, root


def _refuse_features(text: str, source: str) -> None:
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
        raise ConfigError(f"{source}:{line_of(root, steps)}: {where}: give a finite number")


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


def value_at(data: Any, steps: list[str]) -> Any:
    """Return the value at a path of keys and indices, None when there is none."""
    for step in steps:
        if isinstance(data, list):
            data = data[int(step)]
        else:
            data = data.get(step) if isinstance(data, dict) else None
    return data


def line_of(node: yaml.Node, steps: list[str]) -> int:
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
