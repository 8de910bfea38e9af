from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs PyTorch: pip install 'edge-camera[tools]'")
pytest.importorskip("rich", reason="training needs rich: pip install 'edge-camera[tools]'")


from color_crops import flat_items
from edge.color import TERMS
from edge.errors import EXIT_USAGE
from tools.cli import main
from tools.color import baselines, evaluate, figures
from tools.color.data import dataset

SHARED = Path(__file__).parents[2] / "shared" / "data"
BLACK = (1.0, *[0.0] * (len(TERMS) - 1))
MODEL = Path(__file__).parents[1] / "models" / "color-64"


def test_figures_of_known_answers() -> None:
    shares = np.zeros((4, len(TERMS)))
    shares[:2, 0] = 0.9
    shares[:2, 1] = 0.1
    shares[2:, 1] = 0.3
    shares[2:, 2:] = 0.7 / 9
    answers = figures.Answers(
        shares, np.array([0, 1, 1, 1]), ("scene", "scene", "carpanel", "carpanel"), np.ones((4, 3))
    )
    report = figures.figures(answers, unknown_below=0.5)
    assert report.top1 == 0.75
    assert report.coverage == 0.5
    assert report.named_top1 == 0.5
    assert report.ece == pytest.approx(0.5 * 0.4 + 0.5 * 0.7)
    assert report.recall["white"] == pytest.approx(2 / 3)
    assert report.precision["black"] == 0.5
    assert report.recall["pink"] is None
    assert report.confusion["white"] == {"black": 1, "white": 2}
    assert report.selective_top1 == pytest.approx(2 / 3)  # three of four crops are 80 %
    assert figures.figures(answers, 0.5, coverage=0.25).selective_top1 == 1.0
    assert figures.figures(answers, 0.5, coverage=0.1).selective_top1 == 1.0  # of one at least
    assert figures.figures(figures.only(answers, "carpanel"), 0.5).top1 == 1.0


def test_classical_baselines_name_clear_colors(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    items = flat_items(tmp_path)
    trees = baselines.Trees.fit(items * 5, tmp_path / "cache")
    for item, (crop, _) in zip(items, dataset.read_crops(items), strict=True):
        for method in (baselines.KMeans(), trees):
            shares = method.shares(crop)
            assert TERMS[int(shares.argmax())] == item.label
            assert shares.sum() == pytest.approx(1)


def test_evaluation_measures_baselines_beside_the_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("sklearn")
    folder = tmp_path / "data" / "color"
    folder.mkdir(parents=True)
    rows = [
        {"file_name": item.file.name, "split": split, "color": item.label, "source": "carpanel"}
        for item in flat_items(folder)
        for split in (*["train"] * 5, "val")
    ]
    (folder / "labels.json").write_text(json.dumps(rows))
    report = tmp_path / "report.json"
    words = ["evaluate", "color", str(MODEL), "--data", str(folder), "--json", str(report)]
    words += ["--baselines", str(tmp_path / "data"), "--cache", str(tmp_path / "cache")]
    assert main([*words, "--no-class", "--coverage", "0.5"]) == 0
    assert "k-means" in capsys.readouterr().out
    document = json.loads(report.read_text())
    assert document["plain_colors"] > 0.6
    baselines = document["baselines"]
    assert baselines["Lab histogram + trees"]["figures"]["all"]["top1"] == 1.0
    assert all(method["median_ms"] > 0 for method in baselines.values())


@pytest.mark.parametrize("share", ["0", "1.2", "all"])
def test_coverage_outside_0_to_1_is_a_usage_error(share: str) -> None:
    words = ["evaluate", "color", str(MODEL), "--data", "x", "--coverage", share]
    with pytest.raises(SystemExit, match="2"):
        main(words)


def test_evaluation_on_what_a_run_held_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = tmp_path / "detection" / "train"
    pictures.mkdir(parents=True)
    rows = []
    for number, item in enumerate(flat_items(pictures)):
        row = {"image": item.file.name, "bbox": [4, 4, 32, 32], "cls": "car"}
        second = item.label if number else "mixed"
        row |= {"label_1": item.label, "label_2": second, "sure_1": True, "sure_2": True}
        rows.append(row | {"agreed": item.label if number else None})
    (tmp_path / "scene_color").mkdir()
    (tmp_path / "scene_color" / "more.json").write_text(json.dumps(rows))
    report = tmp_path / "report.json"
    words = ["evaluate", "color", str(MODEL), "--json", str(report), "--data"]
    assert main([*words, str(tmp_path), "--hold-out", "0.999"]) == 0
    assert "3 crops whose color somebody named" in capsys.readouterr().out
    document = json.loads(report.read_text())
    assert document["figures"]["more"]["crops"] == 2
    assert document["figures"]["car"]["top1"] == 1.0
    assert 0 < document["cross_entropy"] < 1
    two = [str(tmp_path), str(tmp_path / "scene_color"), "--hold-out", "0.5"]
    assert main([*words, *two]) == EXIT_USAGE
    assert "--hold-out takes one --data folder" in capsys.readouterr().err


def test_cross_entropy_of_known_answers() -> None:
    shares = np.full((2, len(TERMS)), 0.5 / 9)
    shares[:, :2] = 0.25
    first = dataset.ColorItem(Path("a.png"), None, "scene", "black", BLACK, 1.0)
    both = replace(first, label=None, shares=(0.5, 0.5, *BLACK[2:]), weight=3.0)
    assert figures.cross_entropy([first, both], shares) == pytest.approx(np.log(4))
    shares[0] = BLACK
    assert figures.cross_entropy([first, both], shares) == pytest.approx(0.75 * np.log(4))
    wrong = np.roll(shares[:1], 1, axis=1)
    assert figures.cross_entropy([first], wrong) == pytest.approx(-np.log(figures.SMALLEST_SHARE))


@pytest.mark.skipif(not SHARED.exists(), reason="the data folder ../shared/data is not here")
def test_shipped_model_names_seven_of_ten_validation_crops(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = evaluate.argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    folders = [str(SHARED / "color"), str(SHARED / "scene_color")]
    report = tmp_path / "report.json"
    args = parser.parse_args([MODEL.name, "--data", *folders, "--json", str(report)])
    assert evaluate.run(args) == 0
    assert "Answers by label" in capsys.readouterr().out
    document = json.loads(report.read_text())
    assert set(document["selective_top1"]["scene"]) == {"0.5", "0.6", "0.7", "0.8", "0.9", "1.0"}
    found = document["figures"]
    assert found["person"]["crops"] > found["bus"]["crops"] > 0
    products = [found["storeitems"], found["carpanel"]]
    crops = sum(one["crops"] for one in products)
    assert sum(one["top1"] * one["crops"] for one in products) / crops >= 0.70
    assert found["scene"]["top1"] >= 0.70
