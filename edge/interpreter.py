"""The only user of TFLite: loads a model folder, and refuses it if it contradicts its manifest.

Runtimes: ai-edge-litert where installed, else tflite-runtime (ARMv7, older boards). Both run int8
convolutions through XNNPACK when it is enabled. With tflite-runtime 2.14 it is not enabled by
default, and the built-in kernels become very slow with two threads, so callers there use one.
`input_view` is a view of a buffer of ours, `output` a copy: the runtime refuses to run while
anything refers to its own memory, as a profiler that samples threads may. Both have the manifest's
dtype; nothing is converted to float here. A model that is not integer-only is refused, unless its
manifest says `allow_float`: such an imported model is loaded with a warning.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import logging
from pathlib import Path
from types import ModuleType
from typing import Any, Self, cast, get_args

import numpy as np
from numpy.typing import NDArray

from edge import certificate, decoder_rules, lookup, manifest
from edge.errors import ModelError, brief
from edge.manifest import Manifest, TensorSpec
from edge.quiet import without_greeting

logger = logging.getLogger(__name__)

RUNTIMES = (
    ("ai-edge-litert", "ai_edge_litert.interpreter"),
    ("tflite-runtime", "tflite_runtime.interpreter"),
)
XNNPACK_BY_DEFAULT = "ai-edge-litert"
SCALE_RELATIVE_TOLERANCE = 1e-5  # float32 in the flatbuffer against float64 in JSON


def installed_runtime() -> tuple[str, ModuleType]:
    """Return (name with version, module) of the preferred TFLite runtime.

    Raises ModelError when neither is installed.
    """
    for distribution, module in RUNTIMES:
        try:
            loaded = importlib.import_module(module)
        except ImportError:
            continue
        return f"{distribution} {_version(distribution)}", loaded
    raise ModelError("no TFLite runtime: pip install ai-edge-litert (ARMv7: tflite-runtime)")


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:  # a nightly build or a system package
        return "of unknown version"


class Interpreter:
    """One loaded model: write into `input_view()`, `invoke()`, read `output(name)`."""

    def __init__(self, folder: Path, model: Manifest, engine: Any, runtime: str) -> None:
        """Wrap an engine that `load` has allocated and checked; use `load`."""
        self.folder = folder
        self.manifest = model
        self.runtime = runtime
        self.input_size = model.input.size
        self._engine = engine
        self._input_index = engine.get_input_details()[0]["index"]
        self._input = _buffer(model)
        self._has_run = False
        self._outputs: dict[str, int] = {
            detail["name"]: detail["index"] for detail in engine.get_output_details()
        }

    @classmethod
    def load(cls, folder: Path, *, threads: int = 1, xnnpack: bool = True) -> Self:
        """Return a ready interpreter for a model folder.

        threads: CPU threads for one invoke, 1 or more.
        xnnpack: False runs the runtime's built-in kernels (for comparisons).
        Raises ModelError when folder, hash, tensors or certificate differ from the manifest, or
        when the file is not integer-only and its manifest does not allow that.
        """
        model = manifest.read(folder)
        path = folder / model.file
        content = _read_checked(path, model)
        _check_certificate(content, path, model)
        runtime, _ = installed_runtime()
        engine = load_engine(content, path, threads=threads, xnnpack=xnnpack)
        _check_tensors(engine, model)
        _check_decoder(model)
        if model.input.follows_frame:
            _check_other_size(engine, model)
        is_fast = xnnpack and runtime.startswith(XNNPACK_BY_DEFAULT)
        kernels = "xnnpack" if is_fast else "builtin kernels"
        described = f"{runtime}, {kernels}, {threads} thread(s)"
        logger.info(
            "model.loaded name=%s version=%s folder=%s runtime=%r",
            model.name,
            model.version,
            folder,
            described,
        )
        return cls(folder, model, engine, described)

    def resize(self, size: tuple[int, int]) -> None:
        """Resize the input to (width, height), and the outputs with it; their content is lost.

        For a model whose input follows the frame; its strides must divide both sides. It takes
        about a quarter of the time of an invoke.
        """
        resized = self.manifest.at_size(size)
        _resize(self._engine, self._input_index, resized)
        self._input = _buffer(resized)
        self.input_size = size

    def input_view(self) -> NDArray[Any]:
        """Return the input as a view of the manifest's dtype, (height, width, channels).

        channels: three colors in the manifest's order, then a plane for each of `input.classes`.
        What it holds is kept over an `invoke`. Valid until the next `resize`.
        """
        view: NDArray[Any] = self._input[0]
        return view

    def invoke(self) -> None:
        """Run the network on what the input holds.

        Raises ModelError when the first run fails: only then does the runtime notice a constant
        without data, or an operator that it cannot run. Later failures are RuntimeErrors.
        """
        try:
            self._engine.set_tensor(self._input_index, self._input)
            self._engine.invoke()
        except RuntimeError as error:
            if self._has_run:
                raise
            raise ModelError(
                f"model {self.manifest.name}: the TFLite runtime cannot run it: {brief(error)}; "
                "export it again"
            ) from error
        self._has_run = True

    def output(self, name: str) -> NDArray[Any]:
        """Return a copy of an output's stored (mostly quantized) values, without the batch axis.

        Raises KeyError for a name that the manifest does not list.
        """
        copy: NDArray[Any] = self._engine.get_tensor(self._outputs[name])[0]
        return copy


def read_tensors(
    content: bytes, path: Path
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Return the inputs and outputs of a model file as the runtime sees them, for a manifest.

    path: names the file in errors. Raises ModelError when the runtime refuses it, or when a
    manifest does not support a tensor's type.
    """
    engine = load_engine(content, path, xnnpack=False)
    inputs, outputs = (
        tuple(_tensor_spec(detail, path) for detail in details)
        for details in (engine.get_input_details(), engine.get_output_details())
    )
    return inputs, outputs


def _tensor_spec(detail: dict[str, Any], path: Path) -> TensorSpec:
    dtype = np.dtype(detail["dtype"]).name
    if dtype not in get_args(manifest.Dtype):
        raise ModelError(
            f"model file {path}: tensor {detail['name']!r} is {dtype}; export it with int8"
        )
    scale, zero_point = detail["quantization"]
    is_float = dtype == "float32"
    if not is_float and scale <= 0:
        raise ModelError(f"model file {path}: tensor {detail['name']!r} has no scale; quantize it")
    return TensorSpec(
        name=detail["name"],
        shape=tuple(int(size) for size in detail["shape"]),
        dtype=cast("manifest.Dtype", dtype),
        scale=1.0 if is_float else float(scale),
        zero_point=0 if is_float else int(zero_point),
    )


def _read_checked(path: Path, model: Manifest) -> bytes:
    try:
        content = lookup.content(path)
    except OSError as error:
        raise ModelError(f"model file {path}: {error.strerror}; install the folder again") from None
    digest = hashlib.sha256(content).hexdigest()
    if digest != model.sha256:
        raise ModelError(
            f"model file {path}: sha256 is {digest[:12]}…, its manifest says "
            f"{model.sha256[:12]}…; the file was truncated or replaced, install the folder again"
        )
    return content


def _check_certificate(content: bytes, path: Path, model: Manifest) -> None:
    try:
        graph = certificate.read_graph(content)
    except ValueError as error:
        raise ModelError(f"model file {path}: {error}; install the folder again") from None
    broken = certificate.violations(graph)
    if broken and not model.allow_float:
        raise ModelError(
            f"model file {path} is not integer-only: {broken[0]} ({len(broken)} in all); "
            "quantize it with `edge-tools quantize`, or take somebody else's model as it is with "
            "`edge-tools import-model`"
        )
    if broken:
        logger.warning(
            "model.not_integer_only name=%s violations=%d first=%r: it was imported with "
            "allow_float; expect more time and memory than an integer-only model takes",
            model.name,
            len(broken),
            broken[0],
        )
    if certificate.summarize(graph) != model.certificate:
        raise ModelError(
            f"model file {path}: its certificate differs from the manifest's; package it again"
        )


def load_engine(
    content: bytes,
    path: Path,
    *,
    threads: int = 1,
    xnnpack: bool = True,
    keeps_tensors: bool = False,
) -> Any:
    """Return the runtime's own interpreter for a file's content, with allocated tensors.

    For measurements that need more than `Interpreter` offers; nothing is checked against a
    manifest. path: names the file in errors. keeps_tensors: every tensor can be read after invoke.
    Raises ModelError when the runtime refuses the file, or no runtime is installed.
    """
    _, module = installed_runtime()
    kinds = module.OpResolverType
    resolver = kinds.AUTO if xnnpack else kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    try:
        with without_greeting():
            engine = module.Interpreter(
                model_content=content,
                num_threads=threads,
                experimental_op_resolver_type=resolver,
                experimental_preserve_all_tensors=keeps_tensors,
            )
            engine.allocate_tensors()
        engine.get_input_details(), engine.get_output_details()  # raises for undecodable names
    except (ValueError, RuntimeError, SystemError) as error:
        reason = brief(error)
        raise ModelError(f"model file {path}: the TFLite runtime refuses it: {reason}") from None
    return engine


def _check_tensors(engine: Any, model: Manifest) -> None:
    details = {"input": engine.get_input_details(), "output": engine.get_output_details()}
    expected: dict[str, tuple[TensorSpec, ...]] = {
        "input": (model.input,),
        "output": model.outputs,
    }
    for role, specs in expected.items():
        by_name = {detail["name"]: detail for detail in details[role]}
        if set(by_name) != {spec.name for spec in specs}:
            raise ModelError(
                f"model {model.name}: {role} tensors are {sorted(by_name)}, its manifest says "
                f"{sorted(spec.name for spec in specs)}"
            )
        for spec in specs:
            _check_tensor(by_name[spec.name], spec, model.name)


def _buffer(model: Manifest) -> NDArray[Any]:
    return np.zeros(model.input.shape, model.input.dtype)


def _resize(engine: Any, index: int, resized: Manifest) -> None:
    engine.resize_tensor_input(index, resized.input.shape)
    engine.allocate_tensors()


def _check_other_size(engine: Any, model: Manifest) -> None:
    """Refuse a model that claims to accept other sizes but fails with one; restore its own."""
    width, height = model.input.size
    other = model.at_size((height, width + max(model.decoder.strides)))
    index = engine.get_input_details()[0]["index"]
    try:
        with without_greeting():
            _resize(engine, index, other)
            _check_tensors(engine, other)
            _resize(engine, index, model)
    except (ValueError, RuntimeError, SystemError) as error:
        reason = brief(error)
        raise ModelError(
            f"model {model.name}: its manifest says follows_frame, but it takes one size only "
            f"({reason}); write it with `edge-tools quantize detect`"
        ) from None


def _check_decoder(model: Manifest) -> None:
    planes = 3 + len(model.input.classes)
    if len(model.input.shape) != 4 or model.input.shape[::3] != (1, planes):
        raise ModelError(
            f"model {model.name}: its input is {model.input.shape}, not one color picture "
            f"(1, height, width, {planes}); export it with this shape"
        )
    fault = decoder_rules.contradiction(model)
    if fault:
        raise ModelError(f"model {model.name}: its manifest contradicts itself: {fault}")


def _check_tensor(detail: dict[str, Any], spec: TensorSpec, model_name: str) -> None:
    # For a float tensor, TFLite states 0, 0; the manifest states 1, 0, as its formula requires.
    scale, zero_point = (1.0, 0) if spec.is_float else detail["quantization"]
    same = (
        tuple(int(size) for size in detail["shape"]) == spec.shape
        and np.dtype(detail["dtype"]).name == spec.dtype
        and abs(scale - spec.scale) <= SCALE_RELATIVE_TOLERANCE * spec.scale
        and zero_point == spec.zero_point
    )
    if not same:
        raise ModelError(
            f"model {model_name}: tensor {spec.name!r} has another shape, type, scale or zero "
            "point than its manifest says; package the model again"
        )
