"""What a color model's folder says about it in words and figures: CARD.md, accuracy, training."""

from __future__ import annotations

from edge.color import TERMS
from edge.manifest import Accuracy, Manifest
from tools.color_figures import Answers, ColorFigures, figures, only
from tools.train.color_state import ColorTraining

LICENCE = "Apache-2.0"
PRODUCTS = ("carpanel", "storeitems")

_LIMITS = """\
## Limits
- It answers for the object that fills the crop; a crop with two objects gets the colors of both.
- Shop labels of gray, pink and orange disagree between annotators, so nothing gets all of them
  right; see the confusion above.
- Objects of scenes are 9 classes of street and room pictures in visible light; at night, under
  sodium lamps or in infrared the color in the picture is not the object's, and nothing here knows.
- Objects that labellers call unclear or mixed are mostly still named, often with a high share.
- Purple and pink are rare in the scenes: their figures rest on a handful of crops.
- Silver counts as gray, beige and khaki as brown, navy as blue, as the labellers were told.
"""

_FIGURES = """\
## Validation figures of this file
Measured through `edge.color`. Models were chosen and the temperature was fitted on these crops, so
expect a little less on new ones.

{table}
`named`: crops whose best term reaches {threshold}; the others are reported as `unknown`.
"""

_TRIED = """\
Tried, one run each, and no better on validation (top-1 of products and panels / scenes): widths
24 48 128 with depths 1 2 1, 40 epochs, unclear objects as even targets .789 / .752; this size with
stronger augmentation, dropout 0.2, weight decay 0.1 and unclear objects .793 / .765. The float
network of this file has .801 / .792. One standard error is .016 / .034.
"""

_GOLDEN = """\
## Golden picture
`golden.png` is drawn by `tools/quantize_color.py` (a truck, red and white); the manifest holds the
shares it must get.
"""


def training(config: ColorTraining) -> dict[str, str]:
    """Return the manifest's entry about data and run."""
    size = config.architecture
    return {
        "data": (
            "color/train (4,613 product photos and car panels), scene_color/train and "
            "scene_color/more.json (objects cut from street and room pictures, two labellers as "
            "soft targets)"
        ),
        "data_licence": (
            "pictures of scenes: COCO and VOC 2012 (Flickr terms; annotations CC BY 4.0), "
            "highway40 and OpenImages (CC BY), kioe_traffic (MPL-2.0), dotah88 (not stated); no "
            "picture is part of this model"
        ),
        "architecture": f"widths {size.widths}, depths {size.depths}, input {size.input_px} px",
        "run": (
            f"{config.epochs} epochs, batch {config.batch}, AdamW {config.learning_rate:g}, "
            f"seed {config.seed}, averaged weights"
        ),
    }


def accuracy(answers: Answers, name: str, unknown_below: float) -> tuple[Accuracy, ...]:
    """Return the manifest's figures, each with the command that reproduces it."""
    command = f"edge-tools evaluate color models/{name} --data ../shared/data/"
    found = []
    for dataset, sources in (("color", PRODUCTS), ("scene_color", ("scene",))):
        report = figures(only(answers, *sources), unknown_below)
        for metric, value in (("top-1", report.top1), ("ECE", report.ece)):
            found.append(
                Accuracy(
                    dataset=f"{dataset} val, {report.crops} crops",
                    metric=metric,
                    value=round(value, 4),
                    command=command + dataset,
                )
            )
    return tuple(found)


def text(model: Manifest, answers: Answers) -> str:
    """Return CARD.md."""
    threshold = model.decoder.unknown_below
    groups: dict[str, tuple[str, ...]] = {
        "color": PRODUCTS,
        "color, storeitems": ("storeitems",),
        "color, carpanel": ("carpanel",),
        "scene_color": ("scene",),
    }
    reports = {
        name: figures(only(answers, *sources), threshold) for name, sources in groups.items()
    }
    return "\n".join(
        (
            _header(model),
            _FIGURES.format(threshold=threshold, table=_table(reports)),
            "## Confusion (rows: label)\n### Products and car panels",
            _confusion(reports["color"]),
            "### Objects of scenes",
            _confusion(reports["scene_color"]),
            _training(model),
            _LIMITS,
            _GOLDEN,
        )
    )


def _header(model: Manifest) -> str:
    _, height, width, _ = model.input.shape
    return (
        f"# {model.name} {model.version}\n"
        f"Names the color of an object's crop: shares over the 11 basic color terms "
        f"({', '.join(model.labels)}).\n"
        f"{model.parameters:,} weights, {width}x{height} RGB int8 input (the crop stretched), "
        f"every tensor an integer. Licence {model.licence}.\n"
    )


def _training(model: Manifest) -> str:
    facts = "".join(f"- {key}: {value}\n" for key, value in model.training.items())
    return (
        f"## Training\n{facts}\n```\n"
        "edge-tools train color --data ../shared/data --out runs/color\n"
        "edge-tools quantize color runs/color/checkpoint.pt --data ../shared/data "
        f"--out models/{model.name}\n```\n{_TRIED}"
    )


def _table(reports: dict[str, ColorFigures]) -> str:
    lines = [
        "| crops | number | top-1 | ECE | named | right of named |",
        "|---|---|---|---|---|---|",
    ]
    for name, report in reports.items():
        rates = (report.top1, report.ece, report.coverage, report.named_top1)
        cells = " | ".join(f"{rate:.3f}" for rate in rates)
        lines.append(f"| {name} | {report.crops} | {cells} |")
    return "\n".join(lines) + "\n"


def _confusion(report: ColorFigures) -> str:
    lines = ["| | " + " | ".join(TERMS) + " | recall |", "|---" * (len(TERMS) + 2) + "|"]
    for term in TERMS:
        row, recall = report.confusion[term], report.recall[term]
        cells = " | ".join(str(row.get(other, "")) for other in TERMS)
        lines.append(f"| **{term}** | {cells} | {'' if recall is None else f'{recall:.2f}'} |")
    return "\n".join(lines) + "\n"
