"""Pictures with the results of `edge infer` drawn into them."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path
from typing import Any

from edge import lookup, picture_file
from edge.drawing import draw_box, draw_caption
from edge.errors import EdgeError
from edge.inference.inputs import Picture
from edge.values import Box, Image


class Album:
    """The folder of annotated pictures; names are unique.

    No input is overwritten, nor anything else in a folder with inputs: it is the user's own.
    """

    def __init__(self, folder: Path, inputs: list[Path]) -> None:
        """Make the folder; raise EdgeError, before hours of work, when it is not writable."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            raise EdgeError(
                f"{folder}: {error.strerror}; name a folder that can be written"
            ) from None
        self.fault: EdgeError | None = None
        self._folder = folder
        self._taken = {lookup.real(path) for path in inputs}
        if lookup.real(folder) in {lookup.real(path.parent) for path in inputs}:
            self._taken |= {lookup.real(path) for path in folder.iterdir()}
        self._numbers: dict[str, int] = {}  # by stem, the next number to try

    def add(self, picture: Picture, entry: dict[str, Any]) -> None:
        """Save the picture with the results drawn into it; after a `fault`, do nothing."""
        if self.fault is not None:
            return
        path = self._free_path(picture)
        try:
            picture_file.write(path, _draw_results(picture.bgr, entry))
        except OSError as error:
            text = f"{path}: {error.strerror}; pictures from here on are missing"
            self.fault = EdgeError(text)

    def _free_path(self, picture: Picture) -> Path:
        """Return `<stem>.jpg`, with the frame's number for videos, or `<stem>-2.jpg` and so on."""
        stem = picture.path.stem
        if picture.frame is not None:
            stem += f"-{picture.frame:06d}"
        for number in itertools.count(self._numbers.get(stem, 1)):
            path = self._folder / (f"{stem}.jpg" if number == 1 else f"{stem}-{number}.jpg")
            if lookup.real(path) not in self._taken:
                break
        self._taken.add(lookup.real(path))
        self._numbers[stem] = number + 1
        return path


def _draw_results(bgr: Image, entry: dict[str, Any]) -> Image:
    """Return a copy with boxes, labels and colors drawn into it.

    Captions are written over all boxes, the surest last.
    """
    drawn = bgr.copy()
    detections = sorted(entry.get("detections", ()), key=lambda detection: detection["score"])
    for detection in detections:
        draw_box(drawn, Box(*detection["box_px"]), detection["label"])
    for detection in detections:
        color = detection["colors"][0]["name"] if detection["colors"] else ""
        text = f"{detection['label']} {detection['score']:.2f} {color}".rstrip()
        draw_caption(drawn, text, color, detection["box_px"][:2])
    if "colors" in entry:
        text = f"{entry['dominant']} {entry['colors'][0]['score']:.2f}"
        draw_caption(drawn, text, entry["dominant"], (0, 0))
    return drawn
