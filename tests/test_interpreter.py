"""A model folder runs as its manifest says, or is refused with a one-line reason."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edge import interpreter, manifest, model_store
from edge.certificate import _Table
from edge.errors import EXIT_CONFIG, ModelError
from edge.interpreter import Interpreter
from edge.manifest import Decoder
from models import change_manifest, color_folder, detect_folder, refused_folder

ROOT = Path(__file__).parent.parent


def refusal(folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        Interpreter.load(folder)
    message = str(caught.value)
    assert message.isprintable()
    assert folder.name in message
    assert caught.value.exit_code == EXIT_CONFIG
    return message


def test_a_loaded_model_computes_on_what_its_input_view_holds(tmp_path: Path):
    loaded = Interpreter.load(detect_folder(tmp_path))
    view = loaded.input_view()
    assert (view.shape, view.dtype) == ((64, 64, 3), np.int8)
    view[...] = -128
    view[:16, :16, 2] = 127  # the first cell is red
    loaded.invoke()
    objectness = loaded.output("objectness_16")
    assert (objectness.shape, objectness.dtype) == ((4, 4, 1), np.int8)
    assert objectness.argmax() == 0
    # (0.04 * 255 - 6) / 0.1 = 42, and -60 where it is black.
    np.testing.assert_allclose(objectness[0, 0], 42, atol=1)
    np.testing.assert_allclose(objectness[1:], -60, atol=1)


def test_outputs_are_copies_unaffected_by_the_next_invoke(tmp_path: Path):
    loaded = Interpreter.load(detect_folder(tmp_path))
    loaded.input_view()[...] = -128
    loaded.invoke()
    before = loaded.output("objectness_16")
    kept = before.copy()
    loaded.input_view()[..., 2] = 127
    loaded.invoke()
    assert (loaded.output("objectness_16") != kept).all()
    np.testing.assert_array_equal(before, kept)


def test_a_view_that_is_kept_stops_no_invoke_and_no_resize():
    """A profiler, as Dask's workers have one, holds the views of functions that have ended."""
    loaded = Interpreter.load(ROOT / "models" / "yolox-nano-288")  # its input follows the frame
    kept = [loaded.input_view(), loaded.output("objectness_16")]
    loaded.invoke()
    loaded.resize((96, 64))
    kept += [loaded.input_view(), loaded.output("objectness_16")]
    loaded.invoke()
    assert [array.shape for array in kept[::2]] == [(224, 288, 3), (64, 96, 3)]


def test_model_that_loads_but_cannot_run_is_refused_at_its_first_run(tmp_path: Path):
    folder = color_folder(tmp_path)
    file = folder / "model.tflite"
    file.write_bytes(without_weights(file.read_bytes()))
    change_manifest(folder, sha256=hashlib.sha256(file.read_bytes()).hexdigest())
    loaded = Interpreter.load(folder)
    with pytest.raises(ModelError, match=r"tiny-color: the TFLite runtime cannot run it: .*lacks"):
        loaded.invoke()


def without_weights(content: bytes) -> bytes:
    """A .tflite file whose tensors refer to buffer 0, which is empty."""
    changed = bytearray(content)
    model = _Table(content, int.from_bytes(content[:4], "little"))
    for subgraph in model.tables(2):
        for tensor in subgraph.tables(0):
            at = tensor._at(2)
            if at is not None:
                changed[at : at + 4] = bytes(4)
    return bytes(changed)


def test_unknown_output_is_a_key_error(tmp_path: Path):
    with pytest.raises(KeyError):
        Interpreter.load(color_folder(tmp_path)).output("nothing")


@pytest.mark.parametrize("make", [detect_folder, color_folder])
def test_kernels_and_threads_agree(tmp_path: Path, make: Callable[[Path], Path]):
    folder = make(tmp_path)
    variants = [
        Interpreter.load(folder),
        Interpreter.load(folder, threads=2),
        Interpreter.load(folder, xnnpack=False),
    ]
    noise = np.random.default_rng(1).integers(-128, 128, variants[0].input_view().shape, np.int8)
    for variant in variants:
        variant.input_view()[...] = noise
        variant.invoke()
    for spec in variants[0].manifest.outputs:
        expected, *others = (variant.output(spec.name).astype(int) for variant in variants)
        for other in others:
            np.testing.assert_allclose(other, expected, atol=1)


def test_runtime_and_kernels_are_named(tmp_path: Path):
    folder = color_folder(tmp_path)
    name, _module = interpreter.installed_runtime()
    kernels = "xnnpack" if name.startswith("ai-edge-litert") else "builtin kernels"
    assert Interpreter.load(folder, threads=2).runtime == f"{name}, {kernels}, 2 thread(s)"
    assert "builtin kernels" in Interpreter.load(folder, xnnpack=False).runtime


def test_reported_kernels_match_those_that_run(tmp_path: Path):
    loaded = Interpreter.load(detect_folder(tmp_path))
    loaded.invoke()
    operators = {detail["op_name"] for detail in loaded._engine._get_ops_details()}
    assert ("xnnpack" in loaded.runtime) == ("DELEGATE" in operators)


def test_wrong_hash_is_refused(tmp_path: Path):
    message = refusal(change_manifest(color_folder(tmp_path), sha256="0" * 64))
    assert "its manifest says 000000000000" in message


def test_truncated_file_is_refused(tmp_path: Path):
    folder = color_folder(tmp_path)
    path = folder / "model.tflite"
    path.write_bytes(path.read_bytes()[:700])
    assert "truncated or replaced" in refusal(folder)


def test_truncated_file_is_refused_even_with_its_own_hash(tmp_path: Path):
    import hashlib

    folder = color_folder(tmp_path)
    path = folder / "model.tflite"
    path.write_bytes(path.read_bytes()[:700])
    change_manifest(folder, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    assert "damaged or truncated" in refusal(folder)


@pytest.mark.parametrize(
    ("file", "part"),
    [
        ("float.tflite", "not integer-only: tensor 'image' is float32"),
        ("float_inside.tflite", "not integer-only: tensor 'real' is float32"),
        ("custom.tflite", "operator CUSTOM:Mystery"),
    ],
)
def test_model_that_is_not_integer_only_is_refused(tmp_path: Path, file: str, part: str):
    message = refusal(refused_folder(tmp_path, file))
    assert part in message
    assert "quantize" in message


def changed(spec: Any, **changes: Any) -> Any:
    return msgspec.structs.replace(spec, **changes)


TENSOR_CHANGES = {
    "name": "other",
    "shape": (1, 32, 32, 3),
    "dtype": "uint8",
    "scale": 1.01,
    "zero_point": 3,
}


@pytest.mark.parametrize("key", TENSOR_CHANGES)
def test_input_that_differs_from_the_manifest_is_refused(tmp_path: Path, key: str):
    folder = detect_folder(tmp_path)
    spec = changed(manifest.read(folder).input, **{key: TENSOR_CHANGES[key]})
    assert "manifest says" in refusal(change_manifest(folder, input=spec))


@pytest.mark.parametrize("key", TENSOR_CHANGES)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_output_that_differs_from_the_manifest_is_refused(tmp_path: Path, key: str, place: int):
    folder = detect_folder(tmp_path)
    outputs = list(manifest.read(folder).outputs)
    outputs[place] = changed(outputs[place], **{key: TENSOR_CHANGES[key]})
    assert "manifest says" in refusal(change_manifest(folder, outputs=tuple(outputs)))


def test_missing_and_additional_outputs_are_refused(tmp_path: Path):
    folder = detect_folder(tmp_path)
    outputs = manifest.read(folder).outputs
    assert "output tensors are" in refusal(change_manifest(folder, outputs=outputs[:2]))
    more = (*outputs, changed(outputs[0], name="box_32"))
    assert "box_32" in refusal(change_manifest(folder, outputs=more))


def test_scales_equal_but_for_float32_rounding_are_the_same(tmp_path: Path):
    folder = detect_folder(tmp_path)
    outputs = list(manifest.read(folder).outputs)
    outputs[0] = changed(outputs[0], scale=float(np.float32(0.05)))
    assert Interpreter.load(change_manifest(folder, outputs=tuple(outputs)))


def test_certificate_that_does_not_match_the_file_is_refused(tmp_path: Path):
    folder = color_folder(tmp_path)
    claimed = changed(manifest.read(folder).certificate, tensors={"int8": 1})
    assert "certificate differs" in refusal(change_manifest(folder, certificate=claimed))


@pytest.mark.parametrize("kind", ["pipe", "device", "large"])
def test_model_file_that_would_never_end_is_refused(tmp_path: Path, kind: str):
    """As in an archive from a stranger."""
    folder = color_folder(tmp_path)
    file = folder / "model.tflite"
    file.unlink()
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "device":
        file.symlink_to("/dev/zero")
    else:
        with file.open("wb") as sparse:
            sparse.truncate(10**12)
    reason = "over 536870912 bytes" if kind == "large" else "not a plain file"
    assert reason in refusal(folder)


def test_missing_model_file_is_refused(tmp_path: Path):
    folder = color_folder(tmp_path)
    (folder / "model.tflite").unlink()
    assert "No such file" in refusal(folder)


WRONG_MANIFESTS = {
    "": "truncated",
    "{": "truncated",
    "[]": "array",
    "[" * 5000: "not valid",
    '{"format": 2}': "2",
    '{"format": 1, "a\\nb": 1}': "unknown field",
}


@pytest.mark.parametrize("text", WRONG_MANIFESTS, ids=lambda text: text[:20] or "empty")
def test_wrong_manifest_is_refused(tmp_path: Path, text: str):
    folder = color_folder(tmp_path)
    (folder / "manifest.json").write_text(text)
    message = refusal(folder)
    assert "manifest.json" in message
    assert WRONG_MANIFESTS[text] in message


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("file",), "../model.tflite"),
        (("file",), "model\0.tflite"),
        (("labels",), []),
        (("labels",), ["a/b"]),
        (("labels",), ["+"]),
        (("labels",), ["a\x7f"]),  # brokers end the connection for these
        (("labels",), ["a\x85"]),
        (("labels",), ["a\ufffe"]),
        (("labels",), ["a\U0001ffff"]),
        (("name",), "a\nb"),
        (("name",), "a" * 129),
        (("version",), "\x1b[2J"),
        (("input", "scale"), 0),
        (("input", "pad_value"), 300),
        (("input", "resize"), "crop"),
        (("decoder", "temperature"), 0),
        (("decoder", "name"), "magic"),
        (("task",), "guess"),
        (("more",), 1),
    ],
)
def test_manifest_values_out_of_range_are_refused(tmp_path: Path, path: tuple, value: object):
    folder = color_folder(tmp_path)
    data = json.loads((folder / "manifest.json").read_text())
    inner = data
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    (folder / "manifest.json").write_text(json.dumps(data))
    assert "not valid" in refusal(folder)


@pytest.mark.parametrize(
    ("make", "changes", "part"),
    [
        (detect_folder, {"decoder": Decoder(name="yolox", strides=(8, 16))}, "box_8"),
        (detect_folder, {"labels": ("person",)}, "class_16"),
        (detect_folder, {"decoder": Decoder(name="color_shares")}, "2 labels"),
        (color_folder, {"labels": ("red", "blue")}, "2 labels"),
        (color_folder, {"decoder": Decoder(name="yolox", strides=(8,))}, "box_8"),
    ],
)
def test_manifest_that_contradicts_itself_is_refused(
    tmp_path: Path, make: Callable[..., Path], changes: dict[str, Any], part: str
):
    message = refusal(make(tmp_path, **changes))
    assert "contradicts itself" in message
    assert part in message


def test_missing_manifest_names_the_command_that_lists_models(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    assert "edge models" in refusal(tmp_path / "empty")


def test_error_for_a_missing_runtime_names_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(interpreter, "RUNTIMES", (("none", "no_such_runtime.interpreter"),))
    with pytest.raises(ModelError, match="pip install ai-edge-litert"):
        Interpreter.load(color_folder(tmp_path))


def test_runtime_without_package_metadata_is_used(monkeypatch: pytest.MonkeyPatch):
    module = interpreter.installed_runtime()[1].__name__
    monkeypatch.setattr(interpreter, "RUNTIMES", (("edge-nightly-build", module),))
    name, loaded = interpreter.installed_runtime()
    assert name == "edge-nightly-build of unknown version"
    assert loaded is importlib.import_module(module)


def test_own_model_takes_precedence_over_a_shipped_one_of_the_same_name(tmp_path: Path):
    shipped = model_store.installed()
    assert shipped, "no model ships with edge"
    own = color_folder(tmp_path, shipped[0].name)
    assert model_store.find(shipped[0].name, str(tmp_path)) == own
    assert model_store.find(shipped[0].name) == shipped[0]
    assert len(model_store.installed(str(tmp_path))) == len(shipped)
    assert model_store.find(str(own)) == own


def test_missing_models_are_named_with_those_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    color_folder(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=r"installed: .*; for the folder here write \./tiny-color"):
        model_store.find("tiny-color")
    with pytest.raises(ModelError, match=r"'yolo' is not installed; installed: .*tiny-color"):
        model_store.find("yolo", str(tmp_path))
    with pytest.raises(ModelError, match=r"no manifest\.json there"):
        model_store.find("./yolo")
    with pytest.raises(ModelError, match="no folder that can be listed"):
        model_store.find("tiny-color", str(tmp_path / "nowhere"))
