"""`edge-tools data stats` on sets small enough to count by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rich")
pytest.importorskip("matplotlib")

from coco_sets import HERE, annotation, write_set
from edge.errors import EXIT_OK
from tools.cli import main
from tools.data import stats
from tools.dataset import Dataset, Picture


def a_set(*annotations: dict[str, Any]) -> Dataset:
    """Four pictures, of which the last has no source."""
    pictures = tuple(
        Picture(number, Path(f"{number}.png"), 200, 200, source, frozenset(), ())
        for number, source in enumerate(("street", "room", "street", ""))
    )
    return Dataset("some", pictures, {3: "car", 1: "person", 2: "bird"}, annotations)


def box(image: int, category: int, width: float, height: float, **more: Any) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": [0, 0, width, height], **more}


def test_objects_are_counted_by_class_and_size() -> None:
    found = stats.measure(
        a_set(
            box(0, 1, 31, 32),
            box(0, 1, 32, 32, iscrowd=1),
            box(1, 1, 96, 95),
            box(2, 1, 96, 96, iscrowd=0),
            box(2, 1, 64, 16),
            box(2, 3, 0, 0),
        )
    )
    assert (found["pictures"], found["objects"], found["pictures_without_objects"]) == (4, 6, 1)
    assert list(found["classes"]) == ["person", "bird", "car"]  # by id
    assert found["classes"]["person"] == {
        "objects": 5,
        "pictures": 3,
        "crowds": 1,
        "small": 1,
        "medium": 3,
        "large": 1,
        "median_side_px": 32.0,
        "median_aspect": 1.0,
    }
    assert found["classes"]["bird"]["median_side_px"] is None
    assert found["classes"]["bird"]["median_aspect"] is None
    assert found["classes"]["car"]["median_side_px"] == 0.0


def test_size_of_a_box_is_the_square_root_of_its_area() -> None:
    assert stats.side_px(box(0, 1, 64, 16)) == 32.0
    assert stats.side_px(box(0, 1, -4, 9)) == 0.0  # broken, which is for `data check` to say
    assert stats._aspects([box(0, 1, 64, 16), box(0, 1, 16, 64)]) == [4.0, 0.25]


def test_pictures_and_objects_are_counted_by_source() -> None:
    found = stats.measure(a_set(box(0, 1, 9, 9), box(2, 1, 9, 9), box(2, 3, 9, 9)))
    assert list(found["sources"].items()) == [
        ("", {"pictures": 1, "objects": 0}),
        ("room", {"pictures": 1, "objects": 0}),
        ("street", {"pictures": 2, "objects": 3}),
    ]


def test_tables_show_every_class_and_source(capsys: pytest.CaptureFixture[str]) -> None:
    stats._show("some", stats.measure(a_set(box(0, 1, 40, 40))))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].strip() == "some: 4 pictures (3 without objects)"
    assert sum("4 pictures" in line for line in lines) == 1  # a title for both tables
    cells = [[cell.strip() for cell in line.strip("│ ").split("│")] for line in lines]
    heads = [[cell.strip() for cell in line.strip("┃ ").split("┃")] for line in lines]
    assert ["source", "pictures", "objects"] in heads
    assert ["person", "1", "1", "0", "0", "1", "0", "40.0", "1.0"] in cells
    assert ["bird", "0", "0", "0", "0", "0", "0", "-", "-"] in cells
    assert ["street", "2", "1"] in cells


def test_set_without_sources_has_no_source_table(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = stats.measure(a_set(box(0, 1, 40, 40)))
    stats._show("some", found | {"sources": {"": {"pictures": 4, "objects": 1}}})
    shown = capsys.readouterr().out
    assert "class" in shown
    assert "source" not in shown


def test_sets_of_one_name_are_all_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = []
    for version in ("v1", "v2"):
        (tmp_path / version / "street").mkdir(parents=True)
        write_set(tmp_path / version / "street", [{}], [annotation(1, HERE)])
        files.append(tmp_path / version / "street" / "some.json")
    report = tmp_path / "stats.json"
    assert main(["data", "stats", *map(str, files), "--json", str(report)]) == EXIT_OK
    assert list(json.loads(report.read_text())) == [str(file) for file in files]
    assert capsys.readouterr().out.count("│ person") == 2
    assert main(["data", "stats", str(files[0]), "--json", str(report)]) == EXIT_OK
    assert list(json.loads(report.read_text())) == ["street/some"]


def plotted(monkeypatch: pytest.MonkeyPatch, *sets: Dataset) -> Any:
    """Return the diagrams of sets: classes, sources, box sizes, box shapes."""
    drawn: list[Any] = []
    monkeypatch.setattr(stats, "save", lambda figure, *_, **__: drawn.append(figure))
    stats._plot(list(sets), [stats.measure(data) for data in sets], Path("stats.png"))
    return drawn[0].axes


def peaks(plot: Any) -> list[list[tuple[float, float]]]:
    """Return the bins that are not empty, of each set: their left edge and height."""
    found = []
    for outline in plot.patches:
        steps = outline.get_path().vertices
        tops = [(x, y) for (x, y), (_, after) in pairwise(steps.tolist()) if y == after and y > 0]
        found.append(sorted(set(tops)))
    return found


def test_plot_shows_the_shares_of_box_sizes_and_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    one = a_set(box(0, 1, 32, 32), box(0, 1, 64, 16), box(0, 1, 8, 32), box(1, 1, 8, 32))
    other = replace(a_set(box(1, 3, 0, 0)), name="_other")  # matplotlib would hide such a name
    classes, sources, sizes, shapes = plotted(monkeypatch, one, other)
    assert peaks(sizes) == [[(4.0, 0.5), (5.0, 0.5)], [(0.0, 1.0)]]
    assert peaks(shapes) == [[(-2.0, 0.5), (0.0, 0.25), (2.0, 0.25)], [(-10.0, 1.0)]]
    names = [text.get_text() for text in sizes.get_legend().get_texts()]
    assert names == ["some", "_other"]
    assert [sizes.xaxis.get_major_formatter()(log) for log in (0, 5)] == ["1", "32"]
    assert [shapes.xaxis.get_major_formatter()(log) for log in (-2, 0)] == ["1/4", "1"]
    for plot, labels in ((classes, ["person", "bird", "car"]), (sources, ["not named", "room"])):
        assert [text.get_text() for text in plot.get_yticklabels()][: len(labels)] == labels
        bottom, top = plot.get_ylim()
        assert bottom > top  # the first name on top


def test_plot_of_a_set_without_objects_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    for plot in plotted(monkeypatch, a_set())[2:]:
        assert peaks(plot) == [[]]
