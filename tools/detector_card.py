"""The measured part of a detector's card: tables of accuracy, strengths and weaknesses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import isnan

from tools.evaluate.accuracy import Accuracy, GroupAccuracy

NOTABLE = 0.1  # difference of AP50 from the mean over the labels
FEW_OBJECTS = 30  # with fewer, a figure is unreliable
SEEN_FILE = "seen.jpg"


def measured_part(measured: Accuracy, command: str, *, has_seen: bool) -> str:
    """Return Markdown; has_seen: whether the folder holds `seen.jpg`."""
    lines = [
        f"{measured.dataset}, {measured.images} images, with the daemon's own code:",
        f"`{command}`",
        "",
        *_table("class", measured.classes),
        f"| **all** | | **{measured.ap:.3f}** | **{measured.ap50:.3f}** |",
        "",
        *_table("object size", measured.sizes),
        "",
        *((*_table("source", measured.sources), "") if measured.sources else ()),
        "Sizes are COCO's, in pixels of these pictures: small is below 32x32, large from 96x96.",
        "",
        *_judgement(measured),
    ]
    if has_seen:
        lines += ["", *_sample_picture()]
    return "\n".join(lines)


def _table(title: str, groups: Mapping[str, GroupAccuracy]) -> Iterator[str]:
    yield f"| {title} | objects | AP | AP50 |"
    yield "|---|---|---|---|"
    for name, group in groups.items():
        yield f"| {name} | {group.objects} | {_figure(group.ap)} | {_figure(group.ap50)} |"


def _figure(value: float) -> str:
    return "-" if isnan(value) else f"{value:.3f}"


def _judgement(measured: Accuracy) -> Iterator[str]:
    """Yield the groups whose AP50 differs notably from the mean over the labels."""
    groups = measured.classes | {f"{name} objects": item for name, item in measured.sizes.items()}
    groups |= {f"pictures of {name}": item for name, item in measured.sources.items()}
    known = {name: item for name, item in groups.items() if not isnan(item.ap50)}
    ordered = sorted(known, key=lambda name: known[name].ap50)
    good = [name for name in reversed(ordered) if known[name].ap50 >= measured.ap50 + NOTABLE]
    bad = [name for name in ordered if known[name].ap50 <= measured.ap50 - NOTABLE]
    mean = f"AP50, by {NOTABLE} or more from the mean of {measured.ap50:.3f}"
    yield f"- **Good at** ({mean}): {_listed(good, known)}."
    yield f"- **Bad at**: {_listed(bad, known)}."


def _listed(names: list[str], groups: Mapping[str, GroupAccuracy]) -> str:
    return ", ".join(f"{name} {_with_few_note(groups[name])}" for name in names) or "no group"


def _with_few_note(group: GroupAccuracy) -> str:
    few = group.objects < FEW_OBJECTS
    return f"{group.ap50:.2f}" + (f" (only {group.objects} objects: unreliable)" if few else "")


def _sample_picture() -> Iterator[str]:
    yield f"![Hits, then misses, in nine pictures]({SEEN_FILE})"
    yield ""
    yield (
        "Hits (blue), errors (red) and annotated objects (green) in the nine pictures of "
        "`tools/assets/seen`, chosen to be hard; none of them was used for training or evaluation."
    )
