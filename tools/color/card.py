"""What documents a color model: CARD.md, and the manifest's accuracy and training entries."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge.color import TERMS
from edge.errors import InputError
from edge.manifest import Accuracy, Manifest
from tools.color.data import dataset
from tools.color.figures import Answers, ColorFigures, by_class, by_set, figures, groups

if TYPE_CHECKING:  # these import PyTorch, which `evaluate color` does without
    from tools.architectures.color import ColorArchitecture
    from tools.train.color_state import ColorTraining

LICENCE = "Apache-2.0"
CAUSE_KEYS = {"wrong", "objects", "wrong_with", "wrong_without"}
Causes = dict[str, Any]  # failures.json of `edge-tools color failures`
COMMANDS = "commands"  # key of the manifest's training entry with the commands, one a line
SHOP_SOURCE = "storeitems"  # crops to which _SHOP_LIMITS applies
FAIR_CROPS = 10  # of a color or class, the fewest for a meaningful rate

_LIMITS = """\
## Limits

- It classifies the object that fills the crop; a crop with two objects gets the colors of both.
- At night, under sodium lamps or in infrared the color in the picture is not the object's; the
  model does not detect this.
- Objects without one agreed term (mixed, unclear) are not in these figures; the model still names
  a color.
{measured}"""

_SHOP_LIMITS = """\
- Annotators disagree on shop labels of gray, pink and orange, so no model gets all of them right;
  see the confusion above.
- Silver counts as gray, beige and khaki as brown, navy as blue, as the labelling rules say.
"""

_FIGURES = """\
## Validation figures of this file

Measured with `edge.color`, with the objects' classes as input, as in the daemon. Models were chosen
on these crops, and the temperatures fitted on them and on objects that training held out, so expect
slightly lower figures on new ones.
The standard error of a rate p of n crops is the square root of p (1 - p) / n.

{table}
`at 80 %`: top-1 of the most certain 80 %. `ECE`: expected calibration error, the mean difference
between the best term's share and how often it is correct. `named`: crops whose best term reaches
{threshold}; the others are reported as `unknown`. `sure`: objects that both labellers were sure of.
"""

_CLASSES = """\
## By the object's class

Agreed objects of `scene_color` val; a class of a dozen crops has a standard error of .1.

{table}"""

_FAIRNESS = """\
## Fairness of classes

The best and the worst of those with at least {least} validation crops: `color` is the recall of a
color's crops, `object` top-1 of a class's.

{table}"""

_CALIBRATION = """\
## Calibration

The share of the best term and how often it is correct, over all validation crops.

{table}"""

_FAILURES = """\
## Failures by cause

Failures of {objects} agreed objects of `scene_color` val, by measurable cause (explained in
tools/README.md, Color). A cause explains failures only where `wrong with` is the larger rate.

{table}
This draws them:

```
{command}
```
"""

_GOLDEN = """\
## Golden picture

`golden.png` is drawn by `tools/color/quantize.py` (a truck, red and white); the manifest has the
expected shares.
"""


def trained_on(data: Path) -> dict[str, str]:
    """Return the manifest's entries about the training data: crops by source, and their licence."""
    sources = Counter(item.source for item in dataset.training_items(data))
    scenes = {
        "scene_color/train": sources.pop("scene", 0),
        "scene_color/more.json": sources.pop("more", 0),
        "tools/color/data/scene-colors.json": sources.pop(dataset.OURS, 0),
    }
    counts = {"color/train": sources.total(), **scenes}
    return {
        "data": ", ".join(f"{name} ({count:,} crops)" for name, count in counts.items() if count),
        "data_licence": (
            "pictures of scenes: COCO and VOC 2012 (Flickr terms; annotations CC BY 4.0), "
            "highway40 and OpenImages (CC BY), kioe_traffic (MPL-2.0), dotah88 (not stated); no "
            "picture is part of this model"
            if counts["tools/color/data/scene-colors.json"]
            else "that of the pictures; no picture is part of this model"
        ),
    }


def training(config: ColorTraining) -> dict[str, str]:
    """Return the manifest's entries about the training run."""
    size = config.architecture
    return {
        "architecture": _architecture(size),
        "run": (
            f"{config.epochs} epochs, batch {config.batch}, AdamW {config.learning_rate:g}, "
            f"seed {config.seed}, averaged weights; {config.hold_out:.0%} of the pictures "
            "held out"
        ),
        "initial_weights": _initial_weights(config),
        "teachers": (
            f"{', '.join(config.teachers)}, asked about every augmented crop: "
            f"{config.teacher_share:g} of the target of a labelled one, the whole target of an "
            "unlabelled box of detection/train"
            if config.teachers
            else "none"
        ),
    }


def read_causes(path: Path) -> Causes:
    """Return the content of a `failures.json` of `color failures`; InputError for another file."""
    try:
        found: Causes = json.loads(path.read_bytes())
        is_whole = all(one.keys() >= CAUSE_KEYS for one in found["causes"].values())
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        is_whole = False
    if not is_whole or "objects" not in found:
        raise InputError(
            f"{path}: not a failures.json of `edge-tools color failures`; run that first"
        )
    return found


def _initial_weights(config: ColorTraining) -> str:
    size = config.architecture
    first = "random weights"
    if size.trunk == "efficientnet-lite0":
        first = (
            f"ImageNet weights of EfficientNet-Lite0 (Apache-2.0), its first {size.blocks} blocks"
        )
    if not config.weights_sha256:
        return first
    return (
        f"those of a color network (sha256 {config.weights_sha256[:12]}…), which began with {first}"
    )


def _architecture(size: ColorArchitecture) -> str:
    inside = f"widths {size.widths}, depths {size.depths}"
    if size.trunk == "efficientnet-lite0":
        from tools.architectures.efficientnet_lite import EXPANSIONS, stages

        inside = f"EfficientNet-Lite0's first {size.blocks} blocks"
        used = stages(size.blocks)
        expansions = size.expansions[:used]
        if expansions != EXPANSIONS[:used]:
            inside += f" with expansions {' '.join(map(str, expansions))}"
        inside += f", then {size.widths[2]} channels"
    if size.colors:
        inside += f", a path of plain colors with {size.colors} channels beside them"
    return f"{inside}, input {size.input_px} px, {size.classes} class planes"


def accuracy(answers: Answers, name: str, unknown_below: float, data: Path) -> tuple[Accuracy, ...]:
    """Return top-1 and ECE on each data set, with the command that reproduces them."""
    command = f"edge-tools evaluate color models/{name} --data "
    found = []
    for set_name, some in by_set(answers).items():
        report = figures(some, unknown_below)
        for metric, value in (("top-1", report.top1), ("ECE", report.ece)):
            found.append(
                Accuracy(
                    dataset=f"{set_name} val, {report.crops} crops",
                    metric=metric,
                    value=round(value, 4),
                    command=command + shlex.quote(f"{data}/{set_name}"),
                )
            )
    return tuple(found)


def text(model: Manifest, answers: Answers, data: Path, causes: Causes | None = None) -> str:
    """Return CARD.md.

    data: folder with color/, scene_color/, as its commands name it.
    causes: content of `failures.json` of `edge-tools color failures`, None where it was not run.
    """
    threshold = model.decoder.unknown_below
    sets = by_set(answers)
    products = {name: some for name, some in sets.items() if name == "color"}
    reports = _reports({"all": answers, **products, **groups(answers)}, threshold)
    parts = [_header(model), _FIGURES.format(threshold=threshold, table=_table(reports))]
    scenes = sets.get("scene_color")
    if classes := _reports(by_class(scenes) if scenes else {}, threshold):
        parts.append(_CLASSES.format(table=_table(classes)))
    if fairness := _fairness(reports["all"], classes):
        parts.append(_FAIRNESS.format(least=FAIR_CROPS, table=fairness))
    parts += [_CALIBRATION.format(table=_calibration(answers)), "## Confusion (rows: label)\n"]
    titled = {_title(name, some): some for name, some in sets.items()}
    for title, report in _reports(titled, threshold).items():
        parts += [f"### {title}\n", _confusion(report)]
    if causes is not None:
        parts.append(_failures(model.name, causes, data))
    return "\n".join((*parts, _training(model, data), _limits(titled), _GOLDEN))


def _title(name: str, some: Answers) -> str:
    sources = ", ".join(sorted(set(some.sources)))
    return f"Products ({sources})" if name == "color" else "Objects of scenes"


def _limits(sets: dict[str, Answers]) -> str:
    """Return the card's section on limits, with the colors and classes that few crops cover.

    sets: by title.
    """
    lines = []
    for name, some in sets.items():
        crops = np.bincount(some.labels, minlength=len(TERMS))
        few = [f"{term} ({n})" for term, n in zip(TERMS, crops, strict=True) if n < FAIR_CROPS]
        if few:
            words = ", ".join(few)
            lines.append(f"- {name}: too few crops for reliable figures of {words}.\n")
        if classes := sorted(by_class(some)):
            lines.append(f"- {name}: measured only on {', '.join(classes)}.\n")
        lines += [_SHOP_LIMITS] if SHOP_SOURCE in some.sources else []
    return _LIMITS.format(measured="".join(lines))


def _reports(parts: dict[str, Answers], threshold: float) -> dict[str, ColorFigures]:
    return {name: figures(some, threshold) for name, some in parts.items()}


def _fairness(report: ColorFigures, classes: dict[str, ColorFigures]) -> str:
    """Return the table of the best and worst color and class, empty where all have few crops."""
    colors = {term: sum(row.values()) for term, row in report.confusion.items()}
    kinds = {
        "color": [(report.recall[term] or 0.0, term, crops) for term, crops in colors.items()],
        "object": [(one.top1, name, one.crops) for name, one in classes.items()],
    }
    lines = []
    for kind, found in kinds.items():
        enough = sorted(one for one in found if one[2] >= FAIR_CROPS)
        if enough:
            ends = (
                f"{name}, {rate:.2f} of {crops}" for rate, name, crops in (enough[-1], enough[0])
            )
            lines.append(f"| {kind} | {' | '.join(ends)} |")
    return "\n".join(("| of | best | worst |", "|---|---|---|", *lines)) + "\n" if lines else ""


def _calibration(answers: Answers) -> str:
    tops = answers.shares.max(1)
    hits = answers.shares.argmax(1) == answers.labels
    lines = ["| share | crops | mean share | correct |", "|---|---|---|---|"]
    tenths = np.minimum((tops * 10 + 1e-9).astype(int), 9)
    for tenth in np.unique(tenths):
        here = tenths == tenth
        rates = f"{tops[here].mean():.2f} | {hits[here].mean():.2f}"
        lines.append(f"| {tenth / 10:.1f}-{tenth / 10 + 0.1:.1f} | {here.sum()} | {rates} |")
    return "\n".join(lines) + "\n"


def _failures(name: str, causes: Causes, data: Path) -> str:
    lines = [
        "| cause | failures | objects | wrong with | wrong without |",
        "|---|---|---|---|---|",
    ]
    for cause, one in causes["causes"].items():
        rates = " | ".join(
            "-" if one[key] is None else f"{one[key]:.2f}"
            for key in ("wrong_with", "wrong_without")
        )
        lines.append(f"| {cause} | {one['wrong']} | {one['objects']} | {rates} |")
    table = "\n".join(lines) + "\n"
    command = _failures_command(name, data)
    return _FAILURES.format(objects=causes["objects"], table=table, command=command)


def _failures_command(name: str, data: Path) -> str:
    """Return the command that draws a model's failures, with the options that the data has."""
    scenes = shlex.quote(f"{data}/scene_color")
    lines = [f"edge-tools color failures models/{name} --output runs/failures --data {scenes}"]
    pictures, boxes = data / "detection" / "val", data / "detection" / "val.json"
    further = [("--images", pictures)] * pictures.is_dir() + [("--boxes", boxes)] * boxes.is_file()
    if further:
        lines.append(" ".join(f"{option} {shlex.quote(str(path))}" for option, path in further))
    return " \\\n    ".join(lines)


def _header(model: Manifest) -> str:
    width, height = model.input.size
    return (
        f"# {model.name} {model.version}\n\n"
        f"Names the color of an object's crop: shares over the 11 basic color terms "
        f"({', '.join(model.labels)}).\n"
        f"{model.parameters:,} weights, {width}x{height} RGB int8 input (the crop stretched), "
        f"all tensors are integers. {_classes(model)} Licence {model.licence}.\n"
    )


def _classes(model: Manifest) -> str:
    if not model.input.classes:
        return "The class of the object is not an input."
    return f"The class of the object is a further input: {', '.join(model.input.classes)}."


def _training(model: Manifest, data: Path) -> str:
    facts = "".join(
        f"- {key.replace('_', ' ')}: {value}\n"
        for key, value in model.training.items()
        if key != COMMANDS
    )
    if COMMANDS in model.training:
        return f"## Training\n\n{facts}\n```\n{model.training[COMMANDS]}\n```\n"
    return (
        f"## Training\n\n{facts}\n```\n"
        f"edge-tools train color --data {shlex.quote(str(data))} --output runs/color\n"
        f"edge-tools quantize color runs/color/checkpoint.pt --data {shlex.quote(str(data))} "
        f"--output models/{model.name}\n```\n"
        "The options of each run, and what else was tried: tools/README.md, Color.\n"
    )


def _table(reports: dict[str, ColorFigures]) -> str:
    lines = [
        "| crops | number | top-1 | at 80 % | ECE | named | accuracy of named |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, report in reports.items():
        lines.append(f"| {name} | {report.crops} | {' | '.join(report.cells())} |")
    return "\n".join(lines) + "\n"


def _confusion(report: ColorFigures) -> str:
    lines = ["| | " + " | ".join(TERMS) + " | recall |", "|---" * (len(TERMS) + 2) + "|"]
    for term in TERMS:
        row, recall = report.confusion[term], report.recall[term]
        cells = " | ".join(str(row.get(other, "")) for other in TERMS)
        lines.append(f"| **{term}** | {cells} | {'' if recall is None else f'{recall:.2f}'} |")
    return "\n".join(lines) + "\n"
