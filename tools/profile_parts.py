"""Profiles a model's time by part: `edge-tools profile MODEL`.

Method: the model is truncated after each part (operators whose tensors share a name prefix). All
truncated models are timed in turns; the runtime optimizes each like the whole. A part's time is the
difference between two truncated models, so fused operators count for the part in which they end,
and the sum is the whole model's time. Differences of noisy times are noisy, even of a low quantile
over many turns: a part of 1 % may come out as zero or negative.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge import lookup, manifest
from edge.errors import InputError
from edge.interpreter import load_engine
from tools import json_file, model_kind, tflite_file
from tools.arguments import count, option

logger = logging.getLogger(__name__)

EXAMPLES = """\
examples:
  edge-tools profile models/yolox-nano-352
  edge-tools profile models/yolox-nano-352 --depth 3 --json parts.json
"""
QUANTILE = 0.1
WARM = 2  # untimed invokes before each timed one, to refill the CPU caches


@dataclass(frozen=True)
class Part:
    """Consecutive operators with one name prefix.

    ms: time that they add. multiplications: number of multiplications in their convolutions.
    """

    name: str
    operators: int
    multiplications: int
    ms: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("model", help="name, model folder or .tflite file")
    option(parser, "--depth", count, 3, "words of the name prefix")
    option(parser, "--turns", count, 60, "timed invokes per part")
    parser.add_argument("--json", type=Path, help="write the table to this file")


def run(args: argparse.Namespace) -> int:
    """Measure and print the table, most expensive first."""
    path = _file_of(args.model)
    parts = measure(path, args.depth, args.turns)
    total = sum(part.ms for part in parts)
    print(f"{path}: {total:.2f} ms, 1 thread, load {os.getloadavg()[0]:.1f}\n")
    print(f"{'part':<28}{'operators':>10}{'MMAC':>9}{'ms':>9}{'share':>8}")
    for part in sorted(parts, key=lambda item: -item.ms):
        millions = part.multiplications / 1e6
        share = part.ms / total
        print(f"{part.name:<28}{part.operators:>10}{millions:>9.1f}{part.ms:>9.3f}{share:>8.1%}")
    if args.json:
        json_file.write([asdict(part) for part in parts], args.json)
    return 0


def _file_of(model: str) -> Path:
    path = Path(model)
    if path.is_file() or path.suffix == ".tflite":
        return path
    folder = model_kind.folder_of(model)
    return folder / manifest.read(folder).file


def measure(path: Path, depth: int, turns: int) -> list[Part]:
    """Return the parts of a .tflite file in execution order.

    Raises InputError when the file is missing, ModelError when it is not a TFLite model.
    """
    content = _read(path)
    load_engine(content, path)  # raises ModelError for an invalid file
    groups = _groups(tflite_file.unpacked(content), depth)
    ends = list(itertools.accumulate(len(group) for _, group in groups))
    logger.info("profile.parts count=%d; cutting the model after each", len(ends))
    times_ms = _timed([load_engine(part, path) for part in _cuts(content, ends)], turns)
    before = [0.0, *times_ms[:-1]]
    return [
        Part(name, len(group), sum(group), round(after - earlier, 4))
        for (name, group), earlier, after in zip(groups, before, times_ms, strict=True)
    ]


def _read(path: Path) -> bytes:
    try:
        return lookup.content(path)
    except OSError as error:
        raise InputError(f"model {path}: {error.strerror}") from None


def _groups(model: Any, depth: int) -> list[tuple[str, list[int]]]:
    """Return the parts in order: name, and each operator's number of multiplications."""
    graph = model.subgraphs[0]
    found: list[tuple[str, list[int]]] = []
    for operator in graph.operators:
        name = graph.tensors[operator.outputs[0]].name.decode()
        part = "_".join(name.split("_")[:depth])
        if not found or (part != found[-1][0] and not _joins(name)):
            found.append((part, []))
        found[-1][1].append(_multiplications(model, operator))
    return found


def _joins(name: str) -> bool:
    """Return whether an operator only combines a part's tensors: its name is not a layer's."""
    return name.split("_", maxsplit=1)[0] in {"cat", "add"}


def _multiplications(model: Any, operator: Any) -> int:
    """Return output elements x kernel elements per output; 0 if it is not a convolution."""
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    kind = tflite_file.kind_of(model, operator)
    if kind not in {BuiltinOperator.CONV_2D, BuiltinOperator.DEPTHWISE_CONV_2D}:
        return 0
    tensors = model.subgraphs[0].tensors
    _, height, width, depth = (int(side) for side in tensors[operator.inputs[1]].shape)
    seen = depth if kind == BuiltinOperator.CONV_2D else 1
    return int(np.prod(tensors[operator.outputs[0]].shape)) * height * width * seen


def _cuts(content: bytes, ends: Sequence[int]) -> Iterator[bytes]:
    """Yield a model of the first `end` operators for each end.

    Its outputs are the tensors that later operators read, and the whole model's outputs.
    """
    import flatbuffers

    model = tflite_file.unpacked(content)
    graph = model.subgraphs[0]
    operators, outputs = graph.operators, {int(item) for item in graph.outputs}
    model.signatureDefs = []
    for end in ends:
        later = {int(item) for operator in operators[end:] for item in operator.inputs} | outputs
        graph.operators = operators[:end]
        made = [int(item) for operator in graph.operators for item in operator.outputs]
        graph.outputs = [item for item in made if item in later]
        builder = flatbuffers.Builder(len(content))
        builder.Finish(model.Pack(builder), b"TFL3")
        yield bytes(builder.Output())


def _timed(engines: list[Any], turns: int) -> list[float]:
    """Return each model's invoke time in milliseconds, timed in turns."""
    times: list[list[float]] = [[] for _ in engines]
    began_s = time.perf_counter()
    for turn in range(turns):
        if turn == 1:
            left_s = (turns - 1) * (time.perf_counter() - began_s)
            logger.info("profile.timing about_s=%.0f; less with --depth or --turns", left_s)
        for own, engine in zip(times, engines, strict=True):
            for _ in range(WARM):
                engine.invoke()
            started_s = time.perf_counter()
            engine.invoke()
            own.append(1000 * (time.perf_counter() - started_s))
    return [float(np.quantile(own, QUANTILE)) for own in times]
