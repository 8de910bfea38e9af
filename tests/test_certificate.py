"""The integer-only proof: correct on real files; invalid bytes are always refused cleanly."""

from __future__ import annotations

import importlib.util
import random
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge import certificate
from edge.errors import ModelError
from models import DATA

ROOT = Path(__file__).parent.parent
BASELINES = ROOT.parent / "shared" / "baselines"
SHIPPED = sorted(ROOT.glob("models/*/*.tflite"))
TINY = sorted(DATA.glob("*.tflite"))
FOREIGN = sorted(BASELINES.glob("*.tflite"))
BROKEN = {
    "float.tflite": "tensor 'image' is float32",
    "float_inside.tflite": "tensor 'real' is float32",
    "custom.tflite": "operator CUSTOM:Mystery is not a builtin",
}


def name_of(path: Path) -> str:
    return f"{path.parent.name}-{path.stem}"


needs_schema = pytest.mark.skipif(
    importlib.util.find_spec("ai_edge_litert") is None, reason="tflite-runtime has no schema module"
)


def graph_of(name: str) -> certificate.Graph:
    return certificate.read_graph((DATA / name).read_bytes())


@pytest.mark.parametrize("name", ["detect.tflite", "color.tflite"])
def test_integer_models_have_no_violations(name: str):
    graph = graph_of(name)
    assert certificate.violations(graph) == []
    summary = certificate.summarize(graph)
    assert summary.integer_only
    assert set(summary.tensors) == {"int8", "int32"}
    assert summary.operators["AVERAGE_POOL_2D"] == 1


@pytest.mark.parametrize("name", BROKEN)
def test_every_violation_is_named(name: str):
    graph = graph_of(name)
    assert BROKEN[name] in certificate.violations(graph)
    assert not certificate.summarize(graph).integer_only


def test_int8_inputs_and_outputs_do_not_hide_floats_inside():
    graph = graph_of("float_inside.tflite")
    assert {tensor.dtype for tensor in (*graph.inputs, *graph.outputs)} == {"int8"}
    assert certificate.violations(graph)


def test_inputs_and_outputs_must_be_bytes():
    graph = graph_of("color.tflite")
    wide = certificate.TensorFact("wide", "int32")
    changed = certificate.Graph(graph.tensors, (wide,), (wide,), graph.operators)
    assert certificate.violations(changed) == [
        "input 'wide' is int32, not int8 or uint8",
        "output 'wide' is int32, not int8 or uint8",
    ]


def baseline(name: str) -> bytes:
    path = BASELINES / name
    if not path.exists():
        pytest.skip("../shared/baselines is not here")
    return path.read_bytes()


def test_the_usual_ssd_is_not_integer_only():
    graph = certificate.read_graph(baseline("ssd_mobilenet_v1_coco_uint8.tflite"))
    found = certificate.violations(graph)
    assert "operator CUSTOM:TFLite_Detection_PostProcess is not a builtin" in found
    assert sum("is float32" in line for line in found) == 8  # as tensors and as outputs


def test_third_party_integer_model_has_no_violations():
    graph = certificate.read_graph(baseline("yolov5n_coco_int8.tflite"))
    assert certificate.violations(graph) == []


@needs_schema
@pytest.mark.parametrize("path", [*TINY, *SHIPPED, *FOREIGN], ids=name_of)
def test_schema_module_reads_the_same(path: Path):
    from ai_edge_litert import schema_py_generated as schema

    def names(enum: type) -> dict[int, str]:
        return {value: name for name, value in vars(enum).items() if isinstance(value, int)}

    kinds, codes = names(schema.TensorType), names(schema.BuiltinOperator)
    content = path.read_bytes()
    model = schema.ModelT.InitFromPackedBuf(content)
    graph = certificate.read_graph(content)
    tensors = [tensor for part in model.subgraphs for tensor in part.tensors]
    assert [tensor.name[: certificate.MAX_NAME_BYTES].decode() for tensor in tensors] == [
        tensor.name for tensor in graph.tensors
    ]
    assert [kinds[tensor.type].lower() for tensor in tensors] == [
        tensor.dtype for tensor in graph.tensors
    ]
    operators = Counter(
        codes[max(code.builtinCode, code.deprecatedBuiltinCode)]
        for part in model.subgraphs
        for code in (model.operatorCodes[made.opcodeIndex] for made in part.operators)
    )
    ours = Counter(name.partition(":")[0] for name in graph.operators)
    assert ours == operators
    (main,) = model.subgraphs
    assert [fact.name for fact in graph.outputs] == [
        main.tensors[index].name[: certificate.MAX_NAME_BYTES].decode() for index in main.outputs
    ]


@needs_schema
@pytest.mark.parametrize("path", TINY, ids=name_of)
def test_constants_of_tiny_files_are_aligned_as_the_schema_requires(path: Path):
    from ai_edge_litert import schema_py_generated as schema

    content = np.frombuffer(path.read_bytes(), np.uint8)
    model = schema.Model.GetRootAs(content, 0)
    buffers = [model.Buffers(index) for index in range(model.BuffersLength())]
    data = [buffer.DataAsNumpy() for buffer in buffers if buffer.DataLength()]
    assert all((part.ctypes.data - content.ctypes.data) % 16 == 0 for part in data)


@needs_schema
def test_operator_and_tensor_codes_are_those_of_the_schema():
    from ai_edge_litert import schema_py_generated as schema

    for code, name in certificate.OPERATORS.items():
        assert getattr(schema.BuiltinOperator, name) == code
    for code, name in enumerate(certificate.TENSOR_TYPES):
        assert getattr(schema.TensorType, name.upper()) == code


@needs_schema
def test_committed_tiny_models_match_their_script(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("torch")
    monkeypatch.syspath_prepend(str(DATA))
    sys.modules.pop("make_models", None)
    import make_models

    for name, make in make_models.FILES.items():
        assert (DATA / name).read_bytes() == make(), name


def is_refused_or_read(content: bytes) -> bool:
    """Return whether the bytes were refused; any other exception fails the test."""
    try:
        certificate.summarize(certificate.read_graph(content))
    except ValueError as error:
        return str(error).isprintable()
    return False


@pytest.mark.parametrize("path", TINY, ids=lambda path: path.name)
def test_tiny_files_truncated_anywhere_are_refused(path: Path):
    content = path.read_bytes()
    cut = [content[:length] for length in range(0, len(content) - 16, 4)]
    assert all(is_refused_or_read(part) for part in cut)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.parent.name)
def test_shipped_files_truncated_anywhere_are_refused(path: Path):
    content = path.read_bytes()
    places = random.Random(1).sample(range(len(content) - 16), 60)
    assert all(is_refused_or_read(content[:place]) for place in places)


@needs_schema
@pytest.mark.parametrize("path", [DATA / "detect.tflite", *SHIPPED], ids=name_of)
def test_constant_beyond_the_end_of_the_file_is_refused(path: Path):
    from ai_edge_litert import schema_py_generated as schema

    content = np.frombuffer(bytearray(path.read_bytes()), np.uint8)
    model = schema.Model.GetRootAs(content, 0)
    last = model.Buffers(model.BuffersLength() - 1).DataAsNumpy()
    start = last.ctypes.data - content.ctypes.data
    length = len(content) - start + 1
    content[start - 4 : start] = np.array([length], "<u4").view(np.uint8)
    assert is_refused_or_read(content.tobytes())


@settings(max_examples=200)
@given(st.sampled_from(TINY), st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255))))
def test_flipped_bytes_are_refused_or_read(path: Path, changes: list[tuple[int, int]]):
    content = bytearray(path.read_bytes())
    for place, value in changes:
        content[place % len(content)] = value
    is_refused_or_read(bytes(content))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.parent.name)
def test_flipped_bytes_of_shipped_files_are_checked_quickly(path: Path):
    chance = random.Random(1)
    original = path.read_bytes()
    for _ in range(20):
        content = bytearray(original)
        for _ in range(chance.choice((1, 8, 64))):
            content[chance.randrange(len(content))] = chance.randrange(256)
        began_s = time.monotonic()
        is_refused_or_read(bytes(content))
        assert time.monotonic() - began_s < 5


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_or_read(content: bytes):
    is_refused_or_read(content)
    is_refused_or_read(content[:4].ljust(4, b"\0") + b"TFL3" + content)


@needs_schema
def test_tables_that_share_their_bytes_are_read_quickly():
    """One subgraph listed often, with one tensor listed often: nine million in a naive count."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    builder = flatbuffers.Builder()

    def repeated(table: int, times: int) -> int:
        builder.StartVector(4, times, 4)
        for _ in range(times):
            builder.PrependUOffsetTRelative(table)
        return builder.EndVector()

    schema.TensorStart(builder)
    tensors = repeated(schema.TensorEnd(builder), 3000)
    schema.SubGraphStart(builder)
    schema.SubGraphAddTensors(builder, tensors)
    subgraphs = repeated(schema.SubGraphEnd(builder), 3000)
    schema.ModelStart(builder)
    schema.ModelAddSubgraphs(builder, subgraphs)
    builder.Finish(schema.ModelEnd(builder), b"TFL3")
    with pytest.raises(ValueError, match="share their bytes"):
        certificate.read_graph(bytes(builder.Output()))


def test_unreadable_file_is_named(tmp_path: Path):
    with pytest.raises(ModelError, match=r"nowhere\.tflite"):
        certificate.certify(tmp_path / "nowhere.tflite")
    (tmp_path / "text.tflite").write_text("hello world")
    with pytest.raises(ModelError, match=r"text\.tflite: not a TFLite flatbuffer"):
        certificate.certify(tmp_path / "text.tflite")
    assert certificate.certify(DATA / "color.tflite").integer_only
