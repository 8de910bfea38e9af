"""A detector of one's own, from labelled pictures to `edge infer`, by the commands of the guide."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

for needed in ("torch", "pycocotools", "rich", "imagehash", "onnx"):
    pytest.importorskip(needed)

import labelled  # noqa: E402
from edge import cli, manifest  # noqa: E402
from edge.errors import EXIT_OK  # noqa: E402
from tools.cli import main  # noqa: E402

pytestmark = pytest.mark.slow


def test_labelled_pictures_become_a_model_that_edge_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, data = labelled.yolo(tmp_path / "source", 8), tmp_path / "data"
    runs, model = tmp_path / "runs", tmp_path / "own-96"
    assert labelled.imported(source, "yolo", data, "--rename", "cat=forklift") == EXIT_OK
    annotations, images = str(data / "annotations.json"), str(data / "images")
    trained = ["--train", annotations, "--val", annotations, "--images", images]
    trained += ["--steps", "1", "--size", "96x64"]
    measured = ["--annotations", annotations, "--images", images]
    picture = str(next((data / "images").rglob("*.jpg")))

    def run(*words: str) -> None:
        assert main(list(words)) == EXIT_OK

    run("train", "detect", *trained, "--labels", "dog,forklift", "--sizes", "64",
        "--output", str(runs / "own"))  # fmt: skip
    weights = ["--weights", str(runs / "own" / "best.pt")]
    run("train", "detect-int8", *weights, *trained, "--output", str(runs / "own-96"))
    run("quantize", "detect", *weights, "--checkpoint", str(runs / "own-96" / "checkpoint.pt"),
        "--size", "96x64", "--golden", picture, "--output", str(model))  # fmt: skip
    run("evaluate", "detect", str(model), *measured, "--runs", "1", "--record")

    made = manifest.read(model)
    assert (made.name, made.labels) == ("own-96", ("dog", "forklift"))
    assert made.certificate.integer_only
    assert made.golden is not None
    assert {"AP", "AP50", "AP75"} <= {item.metric for item in made.accuracy}
    card = (model / "CARD.md").read_text()
    assert "| forklift | 4 |" in card
    assert "then labels of data/annotations" in card
    capsys.readouterr()
    assert cli.main(["infer", picture, "--model", str(model), "--no-color"]) == EXIT_OK
    assert json.loads(capsys.readouterr().out)[0]["width"] == labelled.SIZE[0]
