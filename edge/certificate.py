"""Proof that a .tflite file is integer-only, read from the flatbuffer itself.

Method: a bounds-checked walk over the few tables that the proof needs (operator codes, subgraphs,
tensors, operators). So the board needs neither the converter's schema module nor a runtime's
report, which may describe a graph that delegates have rewritten.
Source: tensorflow/lite/schema/schema.fbs (field order) and the FlatBuffers binary format.

Integer-only means: every tensor is int8, uint8, int16, int32 or bool, inputs and outputs are int8
or uint8, and there is no custom operator and no operator that touches a float.
"""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge import lookup
from edge.errors import ModelError
from edge.manifest import Certificate

INTEGER_TYPES = frozenset({"int8", "uint8", "int16", "int32", "bool"})
IO_TYPES = frozenset({"int8", "uint8"})

# TensorType of schema.fbs, in the order of its codes.
TENSOR_TYPES = (
    "float32", "float16", "int32", "uint8", "int64", "string", "bool", "int16", "complex64",
    "int8", "float64", "complex128", "uint64", "resource", "variant", "uint32", "uint16", "int4",
    "bfloat16",
)  # fmt: skip

# BuiltinOperator codes of schema.fbs used by our and common int8 networks; others print as op_N.
OPERATORS = {
    0: "ADD", 1: "AVERAGE_POOL_2D", 2: "CONCATENATION", 3: "CONV_2D", 4: "DEPTHWISE_CONV_2D",
    5: "DEPTH_TO_SPACE", 6: "DEQUANTIZE", 9: "FULLY_CONNECTED", 14: "LOGISTIC", 17: "MAX_POOL_2D",
    18: "MUL", 19: "RELU", 21: "RELU6", 22: "RESHAPE", 23: "RESIZE_BILINEAR", 25: "SOFTMAX",
    26: "SPACE_TO_DEPTH", 28: "TANH", 32: "CUSTOM", 34: "PAD", 36: "GATHER", 39: "TRANSPOSE",
    40: "MEAN", 41: "SUB", 45: "STRIDED_SLICE", 49: "SPLIT", 53: "CAST", 55: "MAXIMUM",
    57: "MINIMUM", 60: "PADV2", 65: "SLICE", 67: "TRANSPOSE_CONV", 74: "SUM", 82: "REDUCE_MAX",
    83: "PACK", 97: "RESIZE_NEAREST_NEIGHBOR", 98: "LEAKY_RELU", 102: "SPLIT_V", 114: "QUANTIZE",
    117: "HARD_SWISH", 150: "GELU",
}  # fmt: skip
CUSTOM_OPERATOR = 32
FILE_IDENTIFIER = b"TFL3"
MAX_NAME_BYTES = 256  # longer names of tensors and operators are cut
MIN_TABLE_BYTES = 4  # every table begins with its vtable's offset


@dataclass(frozen=True, slots=True)
class TensorFact:
    """A tensor's name and element type as stated in the file."""

    name: str
    dtype: str


@dataclass(frozen=True, slots=True)
class Graph:
    """The parts of a model file that the certificate needs."""

    tensors: tuple[TensorFact, ...]
    inputs: tuple[TensorFact, ...]
    outputs: tuple[TensorFact, ...]
    operators: tuple[str, ...]


class _Table:
    """A FlatBuffers table at a byte offset; fields are read by their index in the schema."""

    def __init__(self, data: bytes, position: int) -> None:
        self._data = data
        self._position = position
        self._vtable = position - int(struct.unpack_from("<i", data, position)[0])
        if not 0 < self._vtable < len(data):
            raise struct.error("table outside of the file")
        self._fields = (struct.unpack_from("<H", data, self._vtable)[0] - 4) // 2

    def _at(self, field: int) -> int | None:
        """Return the position of a field in the file, None when the table leaves it out."""
        if field >= self._fields:
            return None
        offset = struct.unpack_from("<H", self._data, self._vtable + 4 + 2 * field)[0]
        return self._position + offset if offset else None

    def integer(self, field: int, code: str) -> int:
        """Return a scalar field, 0 when absent; `code` is its `struct` format character."""
        at = self._at(field)
        return 0 if at is None else int(struct.unpack_from("<" + code, self._data, at)[0])

    def vector(self, field: int, item_bytes: int) -> tuple[int, int]:
        """Return where a vector's items begin and how many there are; all lie in the file."""
        at = self._at(field)
        if at is None:
            return 0, 0
        start = at + int(struct.unpack_from("<I", self._data, at)[0])
        count = int(struct.unpack_from("<I", self._data, start)[0])
        if start + 4 + count * item_bytes > len(self._data):
            raise struct.error("vector longer than the file")
        return start + 4, count

    def text(self, field: int) -> str:
        """Return a string field, empty when absent."""
        start, count = self.vector(field, 1)
        return self._data[start : start + min(count, MAX_NAME_BYTES)].decode("utf-8", "replace")

    def integers(self, field: int) -> tuple[int, ...]:
        """Return a vector of int32."""
        start, count = self.vector(field, 4)
        return struct.unpack_from(f"<{count}i", self._data, start)

    def floats(self, field: int) -> tuple[float, ...]:
        """Return a vector of float32."""
        start, count = self.vector(field, 4)
        return struct.unpack_from(f"<{count}f", self._data, start)

    def table(self, field: int) -> _Table | None:
        """Return a table that is a field, None when it is absent."""
        at = self._at(field)
        if at is None:
            return None
        return _Table(self._data, at + struct.unpack_from("<I", self._data, at)[0])

    def tables(self, field: int) -> Iterator[_Table]:
        """Yield the tables of a vector of tables."""
        start, count = self.vector(field, 4)
        for at in range(start, start + 4 * count, 4):
            yield _Table(self._data, at + struct.unpack_from("<I", self._data, at)[0])


def _operator_name(code: _Table) -> str:
    # builtin_code (field 3) replaced the one-byte field 0 when codes passed 127; use the larger.
    builtin = max(code.integer(0, "b"), code.integer(3, "i"))
    if builtin == CUSTOM_OPERATOR:
        return f"CUSTOM:{code.text(1)}"
    return OPERATORS.get(builtin, f"op_{builtin}")


def _tensor(table: _Table) -> TensorFact:
    code = table.integer(1, "b")
    dtype = TENSOR_TYPES[code] if 0 <= code < len(TENSOR_TYPES) else f"type_{code}"
    return TensorFact(table.text(3), dtype)


def read_graph(data: bytes) -> Graph:
    """Return the tensors and operators of a .tflite file's bytes, all subgraphs together.

    Raises ValueError when the bytes are not a complete TFLite flatbuffer.
    """
    if len(data) < 8 or data[4:8] != FILE_IDENTIFIER:
        raise ValueError("not a TFLite flatbuffer")
    try:
        model = _Table(data, struct.unpack_from("<I", data, 0)[0])
        for buffer in model.tables(4):  # constants: usually the part missing in a truncated file
            buffer.vector(0, 1)
        return _walk(model, len(data) // MIN_TABLE_BYTES)
    except (struct.error, IndexError) as error:
        raise ValueError(f"damaged or truncated TFLite flatbuffer ({error})") from None


def parameter_count(data: bytes) -> int:
    """Return the number of weights and biases in a quantized file.

    Constants that configure operators (shapes, axes, paddings) have no scale and do not count.
    data: a file that `read_graph` accepts.
    """
    model = _Table(data, struct.unpack_from("<I", data, 0)[0])
    filled = [buffer.vector(0, 1)[1] > 0 for buffer in model.tables(4)]
    return sum(
        math.prod(tensor.integers(0))
        for subgraph in model.tables(2)
        for tensor in subgraph.tables(0)
        if filled[tensor.integer(2, "I")] and _scales(tensor)
    )


def _scales(tensor: _Table) -> tuple[float, ...]:
    """Return a tensor's scales: one, one per channel, or none."""
    quantization = tensor.table(4)
    return quantization.floats(2) if quantization is not None else ()


def _walk(model: _Table, max_tables: int) -> Graph:
    """Return the graph; raise IndexError for more tables than fit into the file.

    Such tables share bytes, and a small file could hold an endless number of them.
    """
    names = [_operator_name(code) for code in model.tables(1)]
    tensors: list[TensorFact] = []
    inputs: list[TensorFact] = []
    outputs: list[TensorFact] = []
    operators: list[str] = []
    for subgraph in model.tables(2):
        local_tensors = [_tensor(table) for table in subgraph.tables(0)]
        tensors += local_tensors
        inputs += _select(local_tensors, subgraph.integers(1))
        outputs += _select(local_tensors, subgraph.integers(2))
        operators += [names[op.integer(0, "I")] for op in subgraph.tables(3)]
        if len(tensors) + len(operators) > max_tables:
            raise IndexError("tables share their bytes")
    if not operators:
        raise IndexError("no operators")
    return Graph(tuple(tensors), tuple(inputs), tuple(outputs), tuple(operators))


def _select(tensors: list[TensorFact], indices: tuple[int, ...]) -> list[TensorFact]:
    if any(index < 0 for index in indices):
        raise IndexError("negative tensor index")
    return [tensors[index] for index in indices]


def violations(graph: Graph) -> list[str]:
    """Return one line for each violation of the integer-only rule; empty when it holds."""
    faults = [
        f"tensor {tensor.name!r} is {tensor.dtype}"
        for tensor in graph.tensors
        if tensor.dtype not in INTEGER_TYPES
    ]
    faults += [
        f"{role} {tensor.name!r} is {tensor.dtype}, not int8 or uint8"
        for role, group in (("input", graph.inputs), ("output", graph.outputs))
        for tensor in group
        if tensor.dtype not in IO_TYPES
    ]
    faults += [
        f"operator {name} is not a builtin"
        for name in sorted(set(graph.operators))
        if name.startswith("CUSTOM:")
    ]
    return faults


def summarize(graph: Graph) -> Certificate:
    """Return the certificate of a graph: the verdict, and counts of tensors and operators."""
    return Certificate(
        integer_only=not violations(graph),
        tensors=dict(sorted(Counter(tensor.dtype for tensor in graph.tensors).items())),
        operators=dict(sorted(Counter(graph.operators).items())),
    )


def certify(path: Path) -> Certificate:
    """Return the certificate of a .tflite file, integer-only or not.

    Raises ModelError when the file cannot be read or is not a complete flatbuffer.
    """
    try:
        return summarize(read_graph(lookup.content(path)))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ModelError(f"model file {path}: {reason}; install the model folder again") from None
