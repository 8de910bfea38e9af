from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs PyTorch: pip install 'edge-camera[tools]'")
pytest.importorskip("rich", reason="training needs rich: pip install 'edge-camera[tools]'")

import torch

from color_crops import CPU, SMALL, colored_data, flat_items, write_scenes
from edge import manifest
from edge.color import TERMS
from edge.errors import InputError
from tools.cli import main
from tools.color import card, figures
from tools.train import color_state as stored
from tools.train import commands

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "models" / "color-64"


def test_card_lists_the_commands_of_each_step_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    colored_data(tmp_path / "data")
    data, run, model = (str(tmp_path / name) for name in ("data", "run 1", "model"))
    train = ["train", "color", "--input", "32", "--widths", "8", "8", "16", "--epochs", "2"]
    train += ["--data", data, "--output", run]
    options = ["--tracking-uri", f"sqlite:///{tmp_path}/secret.db", "--log-level", "warning"]
    assert main([*train, *options]) == 0
    assert main([*train, "--threads", "1"]) == 0  # already finished: nothing was run
    files = [f"{run}/epochs/{number:02}.pt" for number in (1, 2)]
    average = ["color", "average", *files, "--output", f"{run}/mean.pt"]
    assert main(average) == 0
    quantize = ["quantize", "color", f"{run}/mean.pt", "--data", data, "--output", model]
    assert main(quantize) == 0
    expected = "\n".join(shlex.join(["edge-tools", *words]) for words in (train, average, quantize))
    assert manifest.read(Path(model)).training[card.COMMANDS] == expected
    assert f"```\n{expected}\n```\n" in (Path(model) / "CARD.md").read_text()


def unmade() -> manifest.Manifest:
    """Return the shipped model's manifest without its commands."""
    shipped = manifest.read(MODEL)
    training = {key: value for key, value in shipped.training.items() if key != card.COMMANDS}
    return msgspec.structs.replace(shipped, training=training)


def test_checkpoint_without_commands_gives_the_previous_card(tmp_path: Path) -> None:
    path = tmp_path / stored.CHECKPOINT
    stored.save(SMALL, stored.start(SMALL, CPU), path)
    content = torch.load(path)
    del content["config"]["commands"]
    torch.save(content, path)
    assert stored.load_network(path)[0] == SMALL
    assert commands.of_file(path, "train color") == ()
    text = card.text(unmade(), scenes_and_panels(tmp_path), Path("mine"))
    assert "edge-tools train color --data mine --output runs/color" in text


def scenes_and_panels(folder: Path, times: int = 1) -> figures.Answers:
    """Return answers about cars and car panels of each color, one in six of them wrong."""
    items = [
        replace(item, source=source, object_class="car" if source == "scene" else None)
        for source in ("scene", "carpanel")
        for item in flat_items(folder)
    ] * times
    items = [replace(item, is_sure=True) for item in items]
    labels = figures.label_indices(items)
    shares = np.full((len(items), len(TERMS)), 0.01)
    shares[np.arange(len(items)), labels] = 0.9
    shares[::6] = np.roll(shares[::6], 1, axis=1)
    sources = tuple(item.source for item in items)
    return figures.Answers(shares, labels, sources, np.ones((len(items), 3)), tuple(items))


def test_card_has_classes_calibration_and_failures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my data" / "detection" / "val").mkdir(parents=True)
    answers = scenes_and_panels(tmp_path)
    cause = {"wrong": 1, "objects": 2, "wrong_with": 0.5, "wrong_without": None}
    causes = {"objects": 3, "causes": {"tiny": cause}}
    text = card.text(unmade(), answers, Path("my data"), causes)
    assert "| car | 3 | 0.667 |" in text
    assert "| scene, sure | 3 | 0.667 |" in text
    assert "| all | 6 | 0.833 | 0.800 | 0.067 |" in text
    assert "| 0.9-1.0 | 6 | 0.90 | 0.83 |" in text
    assert "| tiny | 1 | 2 | 0.50 | - |" in text
    assert "| **red** |  |  |  |  | 1 |  |  |  |  |  |  | 0.00 |" in text  # answered orange
    assert "Fairness" not in text
    assert "--data 'my data/scene_color' \\\n    --images 'my data/detection/val'\n" in text
    assert "\n\n\n" not in text
    assert "../shared" not in text


def test_card_says_whether_the_class_is_an_input(tmp_path: Path) -> None:
    answers, model = scenes_and_panels(tmp_path), unmade()
    blind = msgspec.structs.replace(model, input=msgspec.structs.replace(model.input, classes=()))
    assert "The class of the object is a further input: person, bicycle, car," in card.text(
        model, answers, tmp_path
    )
    assert "The class of the object is not an input." in card.text(blind, answers, tmp_path)


def test_card_omits_the_accuracy_of_named_crops_where_none_is_named(tmp_path: Path) -> None:
    unsure = scenes_and_panels(tmp_path)
    unsure = replace(unsure, shares=np.full_like(unsure.shares, 1 / len(TERMS)))
    assert figures.figures(unsure, 0.4).named_top1 is None
    assert "| 0.000 | - |" in card.text(unmade(), unsure, tmp_path)


def test_card_names_the_best_and_worst_class_with_enough_crops(tmp_path: Path) -> None:
    text = card.text(manifest.read(MODEL), scenes_and_panels(tmp_path, 5), tmp_path)
    assert "| color | white, 1.00 of 10 | red, 0.50 of 10 |" in text
    assert "| object | car, 0.67 of 15 | car, 0.67 of 15 |" in text


def test_every_source_other_than_scene_counts_as_products(tmp_path: Path) -> None:
    ours = scenes_and_panels(tmp_path)
    names = {"carpanel": "my shop", "scene": "scene"}
    own = replace(ours, sources=tuple(names[name] for name in ours.sources))
    found = card.accuracy(own, "own", 0.4, Path("mine"))
    assert {one.dataset: one.value for one in found if one.metric == "top-1"} == {
        "color val, 3 crops": 1.0,
        "scene_color val, 3 crops": 0.6667,
    }
    text = card.text(manifest.read(MODEL), own, tmp_path)
    assert "| color | 3 | 1.000 |" in text
    assert "| my shop | 3 | 1.000 |" in text
    assert "### Products (my shop)" in text


def test_limits_section_describes_the_measured_crops(tmp_path: Path) -> None:
    own = scenes_and_panels(tmp_path)
    text = card.text(manifest.read(MODEL), own, tmp_path)
    limits = text.partition("## Limits")[2].partition("## Golden")[0]
    assert "Objects of scenes: measured only on car." in limits
    assert (
        "too few crops for reliable figures of black (0), white (1), gray (0), red (1)," in limits
    )
    assert not {"Annotators", "Silver", "classes", "Purple"} & set(limits.replace(",", " ").split())
    assert "- Products (carpanel): too few crops" in limits
    ours = replace(own, sources=("storeitems",) * len(own.labels))
    assert "- Annotators disagree on shop labels of gray" in card.text(
        manifest.read(MODEL), ours, tmp_path
    )
    enough = scenes_and_panels(tmp_path, 10)
    assert "white (10)" not in card.text(manifest.read(MODEL), enough, tmp_path)


def test_evaluation_writes_the_card_only_for_all_kinds_of_crops(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = shutil.copytree(MODEL, tmp_path / "color-64")
    (model / "CARD.md").write_text("old")
    colored_data(tmp_path)
    write_scenes(tmp_path / "scene", [{"label_1": "black", "label_2": "black", "agreed": "black"}])
    failures = tmp_path / "failures.json"
    failures.write_text('{"objects": 3, "causes": {}}')
    words = ["evaluate", "color", str(model), "--card", str(failures), "--data"]
    products, scenes = str(tmp_path / "color"), str(tmp_path / "scene")
    assert main([*words, products]) == 66
    assert "the card has figures of scene_color; add it to --data" in capsys.readouterr().err
    assert (model / "CARD.md").read_text() == "old"
    assert main([*words, products, scenes]) == 0
    assert "Failures of 3 agreed objects" in (model / "CARD.md").read_text()


def test_card_is_written_without_pytorch() -> None:
    code = "import sys; from tools.color import card, evaluate; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_file_that_is_not_a_failures_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text("[]")
    (tmp_path / "odd.json").write_text('{"objects": 2, "causes": {"tiny": {"wrong": 1}}}')
    (tmp_path / "number.json").write_text('{"objects": 2, "causes": {"tiny": 3}}')
    for name in ("other.json", "odd.json", "number.json", "none.json"):
        with pytest.raises(InputError, match="color failures"):
            card.read_causes(tmp_path / name)
