from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("rich", reason="pip install 'edge-camera[tools]'")
pytest.importorskip("matplotlib", reason="pip install 'edge-camera[tools]'")

from edge.values import Box
from scenes import BOX_PX, scene
from tools.cli import main
from tools.color import failures
from tools.color.pixels.crop import cut_out

MODEL = Path(__file__).parents[1] / "models" / "color-64"
SURE = {"sure_1": True, "sure_2": True, "cls": "car", "source": "rendered"}


def write_set(folder: Path, objects: list[dict[str, Any]]) -> Path:
    """Write objects as scene_color lays them out: rows, crops, pictures, and all boxes."""
    for name in ("set/val", "pictures"):
        (folder / name).mkdir(parents=True)
    rows, boxes = [], []
    for number, one in enumerate(objects):
        name = f"{number}.png"
        box_px = one.get("box", BOX_PX)
        cv2.imwrite(str(folder / "pictures" / name), one["picture"])
        cv2.imwrite(str(folder / "set" / "val" / name), cut_out(one["picture"], box_px))
        row = {"file_name": name, "image": name, "bbox": list(box_px), "split": "val"} | SURE
        label = one["label"]
        row |= {"label_1": label, "label_2": label, "agreed": label}
        rows.append(row | one.get("row", {}))
        boxes += [(number, box) for box in (box_px, *one.get("others", ()))]
    (folder / "set" / "labels.json").write_text(json.dumps(rows))
    document = {
        "categories": [{"id": 1, "name": "car"}],
        "images": [
            {"id": number, "file_name": f"{number}.png", "width": 240, "height": 180}
            for number in range(len(objects))
        ],
        "annotations": [
            {"id": place, "image_id": number, "category_id": 1, "bbox": list(box)}
            for place, (number, box) in enumerate(boxes)
        ],
    }
    (folder / "boxes.json").write_text(json.dumps(document))
    return folder


def judged(folder: Path, output: Path, *, with_pictures: bool = True) -> dict[str, Any]:
    options = ["--images", str(folder / "pictures"), "--boxes", str(folder / "boxes.json")]
    options = options if with_pictures else []
    data = ["--data", str(folder / "set"), "--output", str(output)]
    assert main(["color", "failures", str(MODEL), *data, *options]) == 0
    found: dict[str, Any] = json.loads((output / "failures.json").read_text())
    return found


def two_toned() -> np.ndarray:
    picture = scene("red")
    picture[50:90, 75:185][scene("red")[50:90, 75:185, 2] > 150] = (200, 60, 20)
    return picture


def test_each_cause_is_found_drawn_and_counted(tmp_path: Path) -> None:
    red = scene("red")
    wrong = {"label": "green", "picture": red}
    causes = {
        "tiny": wrong | {"picture": red, "box": Box(110, 80, 40, 20)},
        "clipped": wrong | {"picture": red[:, :150], "box": Box(75, 50, 75, 80)},
        "light": wrong | {"picture": (red * 0.12).astype(np.uint8), "label": "purple"},
        "two-tone": wrong | {"picture": two_toned()},
        "second object": wrong | {"others": [Box(120, 50, 60, 80)]},
        "doubtful": wrong | {"row": {"sure_2": False}},
        "unexplained": wrong,
    }
    right = {"label": "red", "picture": red}
    folder = write_set(tmp_path, [*causes.values(), right, right | {"row": {"sure_1": False}}])
    found = judged(folder, tmp_path / "out")
    assert found["objects"] == 9
    named = [(one["causes"] or ["unexplained"])[0] for one in found["failures"]]
    assert named == list(causes)
    assert {path.stem for path in (tmp_path / "out").glob("*.jpg")} == {
        cause.replace(" ", "-") for cause in causes
    }
    doubtful = found["causes"]["doubtful"]
    assert (doubtful["wrong"], doubtful["objects"]) == (1, 2)
    assert doubtful["wrong_with"] == 0.5
    assert doubtful["wrong_without"] == pytest.approx(6 / 7)


def test_causes_that_need_the_pictures_are_left_out_without_them(tmp_path: Path) -> None:
    folder = write_set(tmp_path, [{"label": "green", "picture": scene("red")}])
    causes = judged(folder, tmp_path / "out", with_pictures=False)["causes"]
    assert [*causes] == ["tiny", "light", "two-tone", "doubtful", "unexplained"]


def test_sheets_of_an_earlier_run_are_removed(tmp_path: Path) -> None:
    tiny = {"label": "green", "picture": scene("red"), "box": Box(110, 80, 40, 20)}
    judged(write_set(tmp_path / "first", [tiny]), tmp_path / "out")
    judged(write_set(tmp_path / "second", [tiny | {"label": "red"}]), tmp_path / "out")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["failures.json"]


def captions_of_sheets(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Return the captions by sheet, filled when sheets are written."""
    drawn: dict[str, list[str]] = {}
    monkeypatch.setattr(
        failures.contact_sheet,
        "write",
        lambda tiles, path: drawn.update({path.stem: [tile.caption for tile in tiles]}),
    )
    return drawn


def test_mistake_with_two_causes_is_drawn_on_both_sheets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = {"label": "green", "picture": scene("red"), "box": Box(110, 80, 40, 20)}
    folder = write_set(tmp_path, [tiny | {"row": {"sure_2": False}}])
    drawn = captions_of_sheets(monkeypatch)
    causes = judged(folder, tmp_path / "out")["causes"]
    assert {name: one["wrong"] for name, one in causes.items() if one["wrong"]} == {
        "tiny": 1,
        "doubtful": 1,
    }
    assert {name: len(captions) for name, captions in drawn.items()} == {"tiny": 1, "doubtful": 1}


def test_most_confident_mistakes_of_a_cause_are_drawn_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixed = cv2.addWeighted(scene("red"), 0.55, scene("blue"), 0.45, 0)
    pictures = (mixed, scene("red"))
    folder = write_set(tmp_path, [{"label": "green", "picture": one} for one in pictures])
    drawn = captions_of_sheets(monkeypatch)
    judged(folder, tmp_path / "out")
    (captions,) = drawn.values()
    shares = [float(caption.split()[-1]) for caption in captions]
    assert len(set(shares)) == 2
    assert shares == sorted(shares, reverse=True)


def test_without_pictures_and_boxes_only_the_crop_is_measured(tmp_path: Path) -> None:
    folder = write_set(tmp_path, [{"label": "green", "picture": scene("red")[:, :150]}])
    out = tmp_path / "out"
    options = ["--data", str(folder / "set"), "--output", str(out)]
    assert main(["color", "failures", str(MODEL), *options]) == 0
    (failure,) = json.loads((out / "failures.json").read_text())["failures"]
    assert failure["measured"]["at_edge"] is None
    assert failure["measured"]["covered"] is None


def test_share_that_another_box_covers() -> None:
    box = Box(0, 0, 10, 10)
    assert failures.covered_share(box, []) == 0
    assert failures.covered_share(box, [box]) == 0  # the object itself
    assert failures.covered_share(box, [Box(5, 0, 10, 10)]) == pytest.approx(0.5)
    assert failures.covered_share(box, [Box(5, 5, 100, 100)]) == pytest.approx(0.25)


@pytest.mark.parametrize("broken", [{"image_id": 9}, {"bbox": [1, 2]}, {"bbox": "x"}])
def test_a_broken_annotation_of_the_boxes_is_named(
    broken: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_set(tmp_path, [{"label": "red", "picture": scene("red")}])
    boxes = json.loads((folder / "boxes.json").read_text())
    boxes["annotations"][0] |= broken
    (folder / "boxes.json").write_text(json.dumps(boxes))
    words = ["--data", str(folder / "set"), "--output", str(tmp_path / "out")]
    words += ["--boxes", str(folder / "boxes.json")]
    assert main(["color", "failures", str(MODEL), *words]) == 66
    assert "boxes.json: a broken annotation" in capsys.readouterr().err


def test_folder_without_agreed_objects_is_a_one_line_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"agreed": None, "label_2": "blue"}
    folder = write_set(tmp_path, [{"label": "red", "picture": scene("red"), "row": row}])
    data = ["--data", str(folder / "set"), "--output", str(tmp_path / "out")]
    assert main(["color", "failures", str(MODEL), *data]) == 66
    assert "no object with an agreed basic color term" in capsys.readouterr().err
