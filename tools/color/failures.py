"""Draw the mistakes of a color model by cause: `edge-tools color failures MODEL --data DIR…`.

The model names every object with an agreed label, as in `evaluate color`. Its mistakes are grouped
by cause and drawn, one contact sheet for each cause, the most confident mistakes first. A cause is
a measurable rule, checked on right and wrong objects alike: it explains mistakes only where the
error rate of objects that fulfil it (`wrong with`) is above that of the others (`wrong without`).
The rules; a mistake is counted under each that holds, and drawn on the sheet of each:

- tiny: the crop's shorter side is below 48 px.
- clipped: the box ends at an edge of its picture (needs --images).
- light: the object's pixels (GrabCut's mask) are dark (median L* below 22) or blown out (a fifth of
  them above L* 97), or its picture has a cast (CIELAB chroma of its mean above 14; needs --images).
- two-tone: a second color has at least 0.2 of the surface by the labellers, or 0.35 of the mask.
- second object: another annotated object covers at least 0.15 of the box (needs --boxes).
- doubtful: one of the labellers was not sure.
- unexplained: none of these.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import compress
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from edge.color import TERMS, ColorModel
from edge.errors import InputError
from edge.interpreter import Interpreter
from edge.values import Box, Image
from tools import contact_sheet, dataset, json_file, model_kind
from tools.annotate.view import view_of
from tools.color.data.dataset import ColorItem, read_crops, read_set
from tools.color.data.objects import LabelObject, read_objects
from tools.color.pixels import cielab, masks
from tools.color.pixels.naming import clusters, term_shares
from tools.progress import track

EXAMPLES = """\
example:
  edge-tools color failures models/color-64 --output runs/failures \\
      --data ../shared/data/scene_color --images ../shared/data/detection/val \\
      --boxes ../shared/data/detection/val.json
"""
TINY_PX = 48
EDGE_PX = 2.0
DARK_L, BLOWN_L, BLOWN_SHARE, CAST_CHROMA = 22.0, 97.0, 0.2, 14.0
SECOND_SHARE, SECOND_IN_MASK = 0.2, 0.35
COVERED_SHARE = 0.15
SAME_OBJECT_IOU = 0.8
UNEXPLAINED = "unexplained"
MAX_TILES = 120  # on a sheet: the most confident mistakes


@dataclass(frozen=True)
class Measured:
    """The values that the rules check; shares 0..1, lightness and chroma in CIELAB.

    at_edge, cast_chroma, covered: None where --images or --boxes was not given.
    """

    shorter_px: int
    at_edge: bool | None
    median_l: float
    blown: float
    cast_chroma: float | None
    second_share: float
    second_in_mask: float
    covered: float | None
    is_sure: bool


# None: not known, since an option was not given.
CAUSES: dict[str, Callable[[Measured], bool | None]] = {
    "tiny": lambda one: one.shorter_px < TINY_PX,
    "clipped": lambda one: one.at_edge,
    "light": lambda one: (
        one.median_l < DARK_L
        or one.blown >= BLOWN_SHARE
        or (one.cast_chroma is not None and one.cast_chroma > CAST_CHROMA)
    ),
    "two-tone": lambda one: (
        one.second_share >= SECOND_SHARE or one.second_in_mask >= SECOND_IN_MASK
    ),
    "second object": lambda one: None if one.covered is None else one.covered >= COVERED_SHARE,
    "doubtful": lambda one: not one.is_sure,
}


@dataclass(frozen=True)
class Judged:
    """One object with the model's answer, its share, and all rules that hold (`causes`)."""

    image: str
    label: str
    answer: str
    share: float
    causes: tuple[str, ...]
    measured: Measured

    @property
    def is_wrong(self) -> bool:
        """Return whether the answer is not the label."""
        return self.answer != self.label


@dataclass(frozen=True)
class CauseCount:
    """The figures of one cause.

    wrong, objects: those for which the rule holds.
    wrong_with, wrong_without: error rate where the rule holds and where not, None without objects.
    """

    wrong: int
    objects: int
    wrong_with: float | None
    wrong_without: float | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("model", type=model_kind.folder_of, help="name or model folder")
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="with a labels.json")
    parser.add_argument("--split", default="val", help="default: %(default)s")
    parser.add_argument("--images", type=Path, help="folder of the pictures the crops are from")
    parser.add_argument("--boxes", type=Path, help="COCO JSON of all objects in those pictures")
    parser.add_argument("--output", type=Path, required=True, help="folder for sheets and JSON")


def run(args: argparse.Namespace) -> int:
    """Draw the sheets, print the table of causes, and write failures.json.

    Raises InputError when the folders hold no labelled object.
    """
    model = ColorModel(Interpreter.load(args.model))
    others = _boxes(args.boxes, args.images) if args.boxes else None
    judged: list[Judged] = []
    tiles: dict[str, list[tuple[float, Image, str]]] = defaultdict(list)
    for item, place, crop in _labelled(args.data, args.split, args.images):
        one = judge(model, item, place, crop, others)
        judged.append(one)
        if one.is_wrong:
            text = f"{one.label}, answered {one.answer} {one.share:.2f}"
            for cause in one.causes or (UNEXPLAINED,):
                tiles[cause].append((one.share, crop, text))
    if not judged:
        raise InputError("no object with an agreed basic color term; name others with --data")
    args.output.mkdir(parents=True, exist_ok=True)
    for cause in (*CAUSES, UNEXPLAINED):
        path = args.output / f"{cause.replace(' ', '-')}.jpg"
        if not tiles[cause]:
            path.unlink(missing_ok=True)  # an earlier run's
            continue
        found = sorted(tiles[cause], key=lambda tile: -tile[0])
        sheet = [contact_sheet.Tile(crop, text) for _, crop, text in found[:MAX_TILES]]
        contact_sheet.write(sheet, path)
    counts = count(judged)
    _write(judged, counts, args.output / "failures.json")
    _print(counts, judged, args.output)
    return 0


def judge(
    model: ColorModel,
    item: ColorItem,
    place: LabelObject,
    crop: Image,
    others: dict[str, list[Box]] | None,
) -> Judged:
    """Return the model's answer for one object and the causes that hold for it.

    place: the object in its picture. others: all boxes by the picture's name, None = not known.
    """
    best = model.classify(crop, item.object_class)[0]
    measured = measure(item, place, crop, others)
    causes = tuple(name for name, holds in CAUSES.items() if holds(measured))
    return Judged(place.image, str(item.label), best.name, best.score, causes, measured)


def measure(
    item: ColorItem, place: LabelObject, crop: Image, others: dict[str, list[Box]] | None
) -> Measured:
    """Return the values that the rules check for one object."""
    view = view_of(place)  # with surroundings, where the object's picture is known
    mask = masks.from_box(view.bgr, view.object_px).mask
    lightness = cielab.from_bgr(view.bgr)[mask][:, 0]
    terms = term_shares(clusters(view.bgr, mask))
    at_edge = cast = covered = None
    if place.box_px is not None:
        picture = dataset.load_file(place.file)
        at_edge, cast = _at_edge(place.box_px, picture), _chroma_of_mean(picture)
        if others is not None:
            covered = covered_share(place.box_px, others.get(Path(place.image).name, []))
    return Measured(
        shorter_px=min(crop.shape[:2]),
        at_edge=at_edge,
        median_l=float(np.median(lightness)),
        blown=float((lightness > BLOWN_L).mean()),
        cast_chroma=cast,
        second_share=sorted(item.shares)[-2],
        second_in_mask=terms[1].score if len(terms) > 1 else 0.0,
        covered=covered,
        is_sure=all(place.human.get(f"sure_{number}", True) for number in (1, 2)),
    )


def covered_share(box_px: Box, boxes: Sequence[Box]) -> float:
    """Return the largest share of a box that one other object's box covers, 0..1.

    boxes: of all objects in its picture; that of the object itself is among them.
    """
    others = [other for other in boxes if box_px.iou(other) < SAME_OBJECT_IOU]
    covered_px = max((box_px.overlap_area(other) for other in others), default=0.0)
    return covered_px / max(box_px.area, 1e-9)


def count(judged: Sequence[Judged]) -> dict[str, CauseCount]:
    """Return the figures of each known cause, and of the objects for which no rule holds."""
    found = {}
    for name, holds in CAUSES.items():
        if any(holds(one.measured) is not None for one in judged):
            found[name] = _count(judged, [name in one.causes for one in judged])
    found[UNEXPLAINED] = _count(judged, [not one.causes for one in judged])
    return found


def _count(judged: Sequence[Judged], holds: Sequence[bool]) -> CauseCount:
    with_it = list(compress(judged, holds))
    without = list(compress(judged, (not one for one in holds)))
    return CauseCount(
        wrong=sum(one.is_wrong for one in with_it),
        objects=len(with_it),
        wrong_with=_rate(with_it),
        wrong_without=_rate(without),
    )


def _rate(judged: Sequence[Judged]) -> float | None:
    return sum(one.is_wrong for one in judged) / len(judged) if judged else None


def _labelled(
    folders: Sequence[Path], split: str, images: Path | None
) -> Iterator[tuple[ColorItem, LabelObject, Image]]:
    """Yield each object with an agreed label, its place in its picture, and its crop."""
    for folder in folders:
        items = read_set(folder, split)
        places = read_objects(folder, images, split)
        both = [
            (item, place) for item, place in zip(items, places, strict=True) if item.label in TERMS
        ]
        crops = read_crops(item for item, _ in both)
        for (item, place), (crop, _) in track(
            zip(both, crops, strict=True), folder.name, total=len(both)
        ):
            yield item, place, crop


def _boxes(annotations: Path, images: Path | None) -> dict[str, list[Box]]:
    """Return all boxes of a COCO file by the picture's name; InputError for a broken one."""
    found = dataset.read(annotations, images or annotations.parent)
    names = {picture.image_id: picture.path.name for picture in found.pictures}
    boxes: dict[str, list[Box]] = defaultdict(list)
    for one in found.annotations:
        boxes[names[one["image_id"]]].append(Box(*one["bbox"]))
    return boxes


def _chroma_of_mean(bgr: Image) -> float:
    """Return the CIELAB chroma of a picture's mean color: large under colored light."""
    return float(np.hypot(*cielab.from_bgr(bgr).reshape(-1, 3).mean(0)[1:]))


def _at_edge(box_px: Box, picture: Image) -> bool:
    height, width = picture.shape[:2]
    gaps = (box_px.x, box_px.y, width - box_px.x - box_px.width, height - box_px.y - box_px.height)
    return bool(min(gaps) <= EDGE_PX)


def _write(judged: Sequence[Judged], counts: dict[str, CauseCount], path: Path) -> None:
    failures = [asdict(one) for one in judged if one.is_wrong]
    causes = {name: asdict(one) for name, one in counts.items()}
    document = {"objects": len(judged), "causes": causes, "failures": failures}
    json_file.write(document, path)


def _print(counts: dict[str, CauseCount], judged: Sequence[Judged], output: Path) -> None:
    wrong = sum(one.is_wrong for one in judged)
    title = f"{wrong} of {len(judged)} objects wrong, by cause"
    heads = ("cause", "wrong", "objects", "wrong with", "wrong without")
    table = Table(*heads, title=title)
    for name, one in counts.items():
        rates = (
            "-" if rate is None else f"{rate:.3f}" for rate in (one.wrong_with, one.wrong_without)
        )
        table.add_row(name, str(one.wrong), str(one.objects), *rates)
    Console().print(table)
    print(f"contact sheets and failures.json in {output}")
