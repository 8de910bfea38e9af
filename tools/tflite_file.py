"""A .tflite file unpacked into the classes of TFLite's schema."""

from __future__ import annotations

from typing import Any


def unpacked(content: bytes) -> Any:
    """Return the `ModelT` of a complete file."""
    from ai_edge_litert import schema_py_generated as schema

    return schema.ModelT.InitFromPackedBuf(content)


def kind_of(model: Any, operator: Any) -> int:
    """Return an operator's `BuiltinOperator`; old files have it in the deprecated field only."""
    code = model.operatorCodes[operator.opcodeIndex]
    return int(max(code.builtinCode, code.deprecatedBuiltinCode))
