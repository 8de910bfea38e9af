"""`edge-tools validate MODEL…`: checks that a model is integer-only and matches its manifest.

Each check passes or fails: the certificate, read from the file; the golden picture with both kernel
families (XNNPACK and the runtime's built-in kernels); and the limits given as options. Needs only
the board's dependencies, except for the plot of --float (matplotlib). For use in CI, the exit code
is 0 if all models pass, else 78.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from edge import certificate, lookup, manifest
from edge.capture import read_image
from edge.errors import EXIT_CONFIG, EXIT_OK, ConfigError, InputError, ModelError, one_line
from edge.interpreter import installed_runtime, load_engine
from edge.manifest import Accuracy, Manifest
from tools import child, golden, json_file, layer_error, model_kind
from tools.arguments import refuse_alone
from tools.benchmark import timing
from tools.data.entry import pictures_below

EXAMPLES = """examples:
  edge-tools validate yolox-nano-352 color-64     # installed models
  edge-tools validate some/model.tflite --list    # any file: certificate, kernels
  edge-tools validate color-64 --max-params 1M --max-ms 10 --min-accuracy 0.75 --json proof.json
  edge-tools validate io.tflite --float original.tflite --images pictures --plot layers.png"""
ROOT = Path(__file__).parents[1]
TIMEOUT_S = 600  # for the checks in another environment
TIMED_INVOKES = 50
SHOWN_LAYERS = 15
MAX_PICTURES = 16
FLOAT_SUFFIX = " float"  # of the metric names of the float original in a manifest
NOT_MEASURED = "no such figure in its manifest; run edge-tools evaluate … --record"
NO_GOLDEN = "its manifest has none; make the folder again, a detector's with --golden PICTURE"
ROUNDING = 1e-9  # tolerance for binary rounding: .90 - .89 is slightly more than .01
SUFFIXES = {"k": 1_000, "M": 1_000_000}
# Options, and those that check or draw nothing without them.
NEEDED = {"float": ("images", "plot", "min_snr_db"), "max_drop": ("float_accuracy",)}


@dataclass(frozen=True)
class Check:
    """Result of one check. detail: the finding, or the reason for failure."""

    name: str
    passed: bool
    detail: str


@dataclass
class Report:
    """All results for one model."""

    model: str
    checks: list[Check] = field(default_factory=list)
    operators: list[str] = field(default_factory=list)
    tensors: list[dict[str, str]] = field(default_factory=list)
    layers: list[layer_error.LayerError] = field(default_factory=list)

    def add(self, name: str, *, passed: bool, detail: str) -> None:
        """Add the result of a check."""
        self.checks.append(Check(name, passed, detail))

    @property
    def passed(self) -> bool:
        """Whether all checks passed."""
        return all(check.passed for check in self.checks)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("models", nargs="+", metavar="MODEL", help="name, folder or .tflite file")
    parser.add_argument("--models-dir", metavar="DIR", help="look for models here first")
    parser.add_argument(
        "--list", "--verbose", action="store_true", help="list every tensor and operator"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything found here")
    parser.add_argument(
        "--tflite-runtime",
        type=Path,
        metavar="PYTHON",
        help="also check on the other runtime: the interpreter of an environment that has it",
    )
    gates = parser.add_argument_group("limits that fail the model")
    gates.add_argument("--max-params", type=_count, metavar="N", help="such as 1M or 97k")
    gates.add_argument("--max-ms", type=float, help="median invoke here, one thread, XNNPACK")
    gates.add_argument(
        "--min-accuracy", type=float, help="lower limit of the accuracy in its manifest"
    )
    gates.add_argument("--metric", help="of --min-accuracy; default: AP50 or top-1")
    gates.add_argument("--max-drop", type=float, help="below the float original's accuracy")
    gates.add_argument(
        "--float-accuracy",
        type=float,
        help="accuracy of the float original, same metric; default: from its manifest",
    )
    layers = parser.add_argument_group("error of each layer against the float original")
    layers.add_argument(
        "--float",
        type=Path,
        metavar="FILE",
        help="float .tflite, or our detector's float weights (.pt, .onnx)",
    )
    layers.add_argument("--images", type=Path, metavar="DIR", help="default: its golden picture")
    layers.add_argument(
        "--plot", type=Path, metavar="PNG", help="draw the signal to noise of each layer"
    )
    layers.add_argument("--min-snr-db", type=float, help="fail when an output falls below")


def run(args: argparse.Namespace) -> int:
    """Print the results of each model; return 78 if one fails."""
    for needed, names in NEEDED.items():
        refuse_alone(args, names, needed)
    reports = [_validate(model, args) for model in args.models]
    if args.json:
        found = [asdict(report) | {"passed": report.passed} for report in reports]
        json_file.write(found, args.json, indent=1)
    return EXIT_OK if all(report.passed for report in reports) else EXIT_CONFIG


def _validate(model: str, args: argparse.Namespace) -> Report:
    report = Report(model)
    folder = None if model.endswith(".tflite") else model_kind.folder_of(model, args.models_dir)
    described = manifest.read(folder) if folder else None
    path = folder / described.file if folder and described else Path(model)
    content = _certify(path, report)
    if report.passed or (described and described.allow_float):
        _run_checks(path, folder, args, report)
    _check_limits(content, path, described, args, report)
    _print(report, is_listed=args.list)
    return report


def _certify(path: Path, report: Report) -> bytes:
    """Print the certificate and add its result; return the file's content.

    Raises ModelError when the file cannot be read or is not a complete .tflite file.
    """
    try:
        content = lookup.content(path)
        graph = certificate.read_graph(content)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ModelError(f"{path}: {reason}; name a complete .tflite file") from None
    summary = certificate.summarize(graph)
    print(f"{path}: tensors {summary.tensors}; operators {summary.operators}")
    report.operators = list(graph.operators)
    report.tensors = [{"name": one.name, "dtype": one.dtype} for one in graph.tensors]
    broken = certificate.violations(graph)
    for line in broken:
        report.add("integer-only", passed=False, detail=line)
    if not broken:
        report.add("integer-only", passed=True, detail=f"{len(graph.operators)} operators")
    return content


def _run_checks(path: Path, folder: Path | None, args: argparse.Namespace, report: Report) -> None:
    if folder is not None:
        _repeat_golden(folder, report)
    else:
        steps = _kernel_difference(path)
        detail = f"XNNPACK and built-in kernels differ by {steps} steps of an output at most"
        report.add("both kernel families run it", passed=True, detail=detail)
    if args.tflite_runtime:
        _check_elsewhere(path if folder is None else folder, args.tflite_runtime, report)
    if args.float:
        _compare_layers(path, folder, args, report)


def _repeat_golden(folder: Path, report: Report) -> None:
    """Add the results for the golden picture, one per kernel family; without one, a failure."""
    if manifest.read(folder).golden is None:
        report.add("golden picture", passed=False, detail=NO_GOLDEN)
        return
    for kernels, xnnpack in (("xnnpack", True), ("builtin kernels", False)):
        try:
            wrong = golden.differences(folder, xnnpack=xnnpack)
        except (ModelError, InputError) as error:
            wrong = [str(error)]
        for line in wrong or [installed_runtime()[0]]:
            report.add(f"golden picture, {kernels}", passed=not wrong, detail=line)


def _check_elsewhere(model: Path, python: Path, report: Report) -> None:
    """Add the results of this command run in another environment, with its runtime."""
    with tempfile.TemporaryDirectory() as scratch:
        found = Path(scratch, "found.json")
        command = [str(python), "-m", "tools", "validate", str(model.resolve())]
        command += ["--json", str(found)]
        try:
            done = subprocess.run(
                command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise ModelError(f"--tflite-runtime {python}: {error}") from None
        if not found.exists():
            raise ModelError(f"--tflite-runtime {python}: {child.reason_of(done)}")
        for check in json.loads(found.read_text())[0]["checks"]:
            name = f"other runtime, {check['name']}"
            report.add(name, passed=check["passed"], detail=check["detail"])


def _kernel_difference(path: Path) -> int:
    """Return the largest output difference between kernel families on random pixels, in steps."""
    outputs = []
    for xnnpack in (True, False):
        engine = load_engine(path.read_bytes(), path, xnnpack=xnnpack)
        detail = engine.get_input_details()[0]
        limits = np.iinfo(detail["dtype"])
        pixels = np.random.default_rng(1).integers(limits.min, limits.max + 1, detail["shape"])
        engine.set_tensor(detail["index"], pixels.astype(detail["dtype"]))
        engine.invoke()
        outputs.append([engine.get_tensor(one["index"]) for one in engine.get_output_details()])
    pairs = zip(*outputs, strict=True)
    return max(int(np.abs(one.astype(int) - other.astype(int)).max()) for one, other in pairs)


def _check_limits(
    content: bytes,
    path: Path,
    described: Manifest | None,
    args: argparse.Namespace,
    report: Report,
) -> None:
    """Add a result for each given limit."""
    if args.max_params is not None:
        count = certificate.parameter_count(content)
        limit = f"{count:,} parameters, at most {args.max_params:,}"
        report.add("--max-params", passed=count <= args.max_params, detail=limit)
    if args.max_ms is not None:
        _check_time(content, path, args.max_ms, report)
    report.checks += _accuracy_checks(described, args)


def _check_time(content: bytes, path: Path, max_ms: float, report: Report) -> None:
    """Add the result for the time of an invoke; a file that does not run fails."""
    try:
        median_ms = timing.median_ms(load_engine(content, path).invoke, TIMED_INVOKES)
    except (ModelError, RuntimeError) as error:
        report.add("--max-ms", passed=False, detail=one_line(error))
        return
    limit = f"{median_ms:.2f} ms, at most {max_ms:g}"
    report.add("--max-ms", passed=median_ms <= max_ms, detail=limit)


def _accuracy_checks(described: Manifest | None, args: argparse.Namespace) -> Iterator[Check]:
    """Yield the results for accuracy; a figure that was not measured fails."""
    wanted = [args.metric] if args.metric else ["AP50", "top-1"]
    recorded = described.accuracy if described else ()
    figures = [one for one in recorded if one.metric in wanted]
    for name, limit in (("--min-accuracy", args.min_accuracy), ("--max-drop", args.max_drop)):
        if limit is not None and not figures:
            yield Check(name, passed=False, detail=NOT_MEASURED)
    for one in figures:
        found = f"{one.metric} {one.value:.4f} on {one.dataset}"
        if args.min_accuracy is not None:
            detail = f"{found}, at least {args.min_accuracy:.4f}"
            yield Check("--min-accuracy", one.value >= args.min_accuracy, detail)
        if args.max_drop is not None:
            yield _drop_check(one, found, recorded, args)


def _drop_check(
    one: Accuracy, found: str, recorded: Sequence[Accuracy], args: argparse.Namespace
) -> Check:
    """Return the result for a figure's drop against that of the float original.

    found: the figure as text.
    """
    key = (one.dataset, f"{one.metric}{FLOAT_SUFFIX}")
    original = args.float_accuracy
    if original is None:
        original = next((it.value for it in recorded if (it.dataset, it.metric) == key), None)
    if original is None:
        detail = f"{found}; no {key[1]!r} in its manifest, give --float-accuracy"
        return Check("--max-drop", passed=False, detail=detail)
    drop = original - one.value
    detail = f"{found}, float {original:.4f}: {drop:.4f} lower, at most {args.max_drop:g}"
    return Check("--max-drop", drop <= args.max_drop + ROUNDING, detail)


def _compare_layers(
    path: Path, folder: Path | None, args: argparse.Namespace, report: Report
) -> None:
    pictures = [read_image(one) for one in _pictures(folder, args.images)]
    if args.float.suffix in {".pt", ".onnx"}:
        report.layers = layer_error.compare_detector(path, args.float, pictures)
    else:
        rgb = [bgr[:, :, ::-1] for bgr in pictures]
        report.layers = layer_error.compare(path, args.float, rgb)
    if args.plot:
        name = folder.resolve().name if folder else path.name
        layer_error.plot(report.layers, args.plot, title=f"{name} against {args.float.name}")
    if args.min_snr_db is not None:
        outputs = {one.name for one in certificate.read_graph(path.read_bytes()).outputs}
        found = [one for one in report.layers if one.name in outputs]
        lowest = min(found, key=lambda one: one.snr_db, default=None)
        if lowest is None:
            report.add("--min-snr-db", passed=False, detail="no output has the original's name")
        else:
            detail = f"{lowest.name}: {lowest.snr_db:.1f} dB, at least {args.min_snr_db:g}"
            report.add("--min-snr-db", passed=lowest.snr_db >= args.min_snr_db, detail=detail)


def _pictures(folder: Path | None, images: Path | None) -> list[Path]:
    """Return at most MAX_PICTURES pictures, evenly spaced in `images`; default: the golden one."""
    if images is not None:
        found = pictures_below(images)
        if not found:
            raise ModelError(f"{images}: no pictures (jpg, png) there; name a folder of some")
        count = min(len(found), MAX_PICTURES)
        return [found[place * len(found) // count] for place in range(count)]
    stored = manifest.read(folder).golden if folder else None
    if folder is None or stored is None:
        raise ConfigError("--float needs pictures; give --images DIR")
    return [folder / stored.file]


def _print(report: Report, *, is_listed: bool) -> None:
    if is_listed:
        for number, name in enumerate(report.operators):
            print(f"  operator {number:>4} {name}")
        for tensor in report.tensors:
            print(f"  tensor {tensor['dtype']:<8} {tensor['name']}")
    if report.layers:
        print(f"  {'SNR, dB':>8} {'steps':>8} {'clipped':>8}  tensor (worst of "
              f"{len(report.layers)})")  # fmt: skip
        for one in report.layers if is_listed else report.layers[:SHOWN_LAYERS]:
            print(f"  {one.snr_db:8.1f} {one.worst_steps:8.1f} {one.clipped:8.2%}  {one.name}")
    for check in report.checks:
        print(f"  {'pass' if check.passed else 'FAIL'}  {check.name}: {check.detail}")
    print(f"{report.model}: {'pass' if report.passed else 'FAIL'}")


def _count(text: str) -> int:
    """Return a number with an optional k or M."""
    factor = SUFFIXES.get(text[-1:], 1)
    try:
        return int(float(text.rstrip("kM")) * factor)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number such as 97000, 97k or 1M"
        ) from None
