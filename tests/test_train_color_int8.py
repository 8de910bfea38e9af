"""The color network's training through int8: resumes where it stopped, gives a model folder."""

from __future__ import annotations

import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("rich")

from color_crops import SMALL  # noqa: E402
from edge import manifest  # noqa: E402
from edge.color import TERMS, ColorModel  # noqa: E402
from edge.errors import EXIT_NO_INPUT, EXIT_OK  # noqa: E402
from edge.interpreter import Interpreter  # noqa: E402
from stopping import assert_same_weights, stopped_and_whole  # noqa: E402
from tools.architectures.color import OUTPUT  # noqa: E402
from tools.arguments import LARGEST_SEED  # noqa: E402
from tools.cli import main  # noqa: E402
from tools.train import color, color_int8, color_state  # noqa: E402
from tools.train.color_augment import plain, with_classes  # noqa: E402

FLAT = {"red": (20, 20, 210), "green": (60, 180, 30), "white": (240, 240, 240)}
CONFIG = replace(SMALL, epochs=8)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder: flat products, and scenes of the same colors to validate on."""
    shades = np.random.default_rng(1).integers(-15, 15, 16)
    products, scenes = tmp_path / "data" / "color", tmp_path / "data" / "scene_color"
    for folder in (products, scenes / "val"):
        folder.mkdir(parents=True)
        for name, bgr in FLAT.items():
            for number, shade in enumerate(shades):
                picture = np.full((36, 36, 3), bgr, np.int64) + shade
                cv2.imwrite(str(folder / f"{name}{number}.png"), picture.clip(0, 255))
    rows = [
        {
            "file_name": f"{name}{number}.png",
            "split": "val" if number < 2 else "train",
            "color": name,
            "source": "carpanel",
        }
        for name in FLAT
        for number in range(16)
    ]
    (products / "labels.json").write_text(json.dumps(rows))
    sure = {"sure_1": True, "sure_2": True, "split": "val", "image": "a.png", "bbox": [0, 0, 9, 9]}
    named = [
        {"file_name": f"{name}0.png", "label_1": name, "label_2": name, "agreed": name, **sure}
        for name in FLAT
    ]
    train = named[0] | {"split": "train", "image": "none.png", "label_1": "unclear"}
    train |= {"label_2": "unclear", "agreed": "unclear"}  # skipped: its picture is not read
    (scenes / "labels.json").write_text(json.dumps([*named, train]))
    return tmp_path / "data"


@pytest.fixture
def weights(data: Path, tmp_path: Path) -> Path:
    """A float network that tells the colors apart."""
    items = color.dataset.training_items(data)
    packed = color.arrays.pack(items, 48, color.MARGIN)
    color.train(CONFIG, packed, {}, tmp_path / "float", torch.device("cpu"))
    return tmp_path / "float" / color_state.CHECKPOINT


def train(weights: Path, data: Path, out: Path, *words: str) -> int:
    every = ["--every", "2", "--data", str(data), "--output", str(out)]
    return main(["train", "color-int8", str(weights), *every, *words])


def test_stopped_run_resumes_and_ends_with_the_same_weights(
    weights: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(out: Path) -> None:
        assert train(weights, data, out, "--steps", "4") == EXIT_OK

    assert_same_weights(*stopped_and_whole(run, color_int8, tmp_path, monkeypatch))
    lines = (tmp_path / "parts" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [2, 4]


def test_quantized_model_folder_agrees_with_the_float_network(
    weights: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = torch.load(weights)
    content["config"]["commands"] = ("edge-tools train color --data mine",)
    torch.save(content, weights)
    assert train(weights, data, tmp_path / "int8", "--steps", "6") == EXIT_OK
    assert train(weights, data, tmp_path / "int8", "--steps", "6", "--threads", "1") == EXIT_OK
    printed = capsys.readouterr().out.split("`")[1]  # the next command
    words = shlex.split(printed.replace("FOLDER", shlex.quote(str(tmp_path / "model"))))
    assert main(words[1:]) == EXIT_OK
    assert "scene: float top-1 1.000, int8 1.000" in capsys.readouterr().out
    made = manifest.read(tmp_path / "model")
    assert made.certificate.integer_only
    assert "quantization-aware training, 6 steps" in made.training["int8"]
    float_run, int8_run, quantized = made.training["commands"].splitlines()
    assert float_run == content["config"]["commands"][0]
    assert int8_run.startswith("edge-tools train color-int8 ")
    assert quantized == shlex.join(words)
    model = ColorModel(Interpreter.load(tmp_path / "model"))
    _, network = color_state.load_network(weights)
    for name in FLAT:
        bgr = cv2.imread(str(data / "color" / f"{name}5.png"))
        pixels = plain(torch.from_numpy(cv2.resize(bgr, (32, 32))[None, ..., ::-1].copy()))
        logits = network(with_classes(pixels, torch.tensor([-1]), 9))[OUTPUT]
        expected = (logits / made.decoder.temperature).softmax(1)[0].tolist()
        shares = {share.name: share.score for share in model.classify(bgr)}
        assert shares == pytest.approx(dict(zip(TERMS, expected, strict=True)), abs=0.06)


def test_scene_objects_alone_make_a_folder_that_loads(weights: Path, data: Path) -> None:
    shutil.rmtree(data / "color")
    scenes, pictures = data / "scene_color", data / "detection" / "train"
    pictures.mkdir(parents=True)
    shutil.copy(scenes / "val" / "red0.png", pictures / "red0.png")
    rows = json.loads((scenes / "labels.json").read_text())
    rows[-1] = rows[0] | {"split": "train", "image": "red0.png"}
    (scenes / "labels.json").write_text(json.dumps(rows))
    out = data / "model"
    assert main(["quantize", "color", str(weights), "--data", str(data), "--output", str(out)]) == 0
    made = ColorModel(Interpreter.load(out)).manifest
    assert {figure.dataset for figure in made.accuracy} == {"scene_color val, 3 crops"}
    assert made.training["data"] == "scene_color/train (1 crops)"
    assert "COCO" not in made.training["data_licence"]
    assert "### Products" not in (out / "CARD.md").read_text()


def test_temperatures_are_fitted_to_held_out_objects_too(weights: Path, data: Path) -> None:
    pictures = data / "detection" / "train"
    pictures.mkdir(parents=True)
    path = data / "scene_color" / "labels.json"
    rows = json.loads(path.read_text())
    for name in FLAT:  # held out, and labelled as something else
        shutil.copy(data / "scene_color" / "val" / f"{name}0.png", pictures / f"{name}.png")
        other = dict.fromkeys(("label_1", "label_2", "agreed"), "purple")
        rows.append(rows[0] | other | {"split": "train", "image": f"{name}.png"})
    path.write_text(json.dumps(rows))
    found = []
    for share in (0.0, 0.9999):
        content = torch.load(weights)
        content["config"]["hold_out"] = share
        torch.save(content, weights)
        out = data / f"model-{share}"
        words = ["quantize", "color", str(weights), "--data", str(data), "--output", str(out)]
        assert main(words) == 0
        found.append(manifest.read(out).decoder.temperature)
    assert found[0] < found[1]


def test_data_without_validation_crops_is_named(
    weights: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(data / "color")
    path = data / "scene_color" / "labels.json"
    rows = [row | {"agreed": "mixed"} for row in json.loads(path.read_text())]
    path.write_text(json.dumps(rows))
    out = data / "model"
    words = ["quantize", "color", str(weights), "--data", str(data), "--output", str(out)]
    assert main(words) == EXIT_NO_INPUT
    assert "no crop of split val" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("split", ["val", "train"])
def test_error_for_data_without_a_split_names_the_fix(
    split: str, weights: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in data.glob("*/labels.json"):
        rows = [row for row in json.loads(path.read_text()) if row["split"] != split]
        path.write_text(json.dumps(rows))
    given = ["--data", str(data), "--output", str(tmp_path / "out")]
    for words in (
        ["quantize", "color", str(weights)],
        ["train", "color-int8", str(weights)],
        ["train", "color"],
    ):
        assert main([*words, *given]) == EXIT_NO_INPUT
        err = capsys.readouterr().err
        assert f'has "split": "{split}"; give it to some' in err
        assert "--split" not in err


def test_model_written_to_the_working_folder_is_named_after_it(
    weights: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    words = ["quantize", "color", str(weights), "--data", str(data), "--output"]
    assert main([*words, "."]) == EXIT_OK
    made = manifest.read(tmp_path / "mine")
    assert made.name == "mine"
    assert {one.command.split()[3] for one in made.accuracy} == {"models/mine"}


def test_one_of_the_two_sets_may_lack_a_split(weights: Path, data: Path) -> None:
    path = data / "scene_color" / "labels.json"
    rows = [row for row in json.loads(path.read_text()) if row["split"] != "val"]
    path.write_text(json.dumps(rows))
    out = data / "model"
    assert main(["quantize", "color", str(weights), "--data", str(data), "--output", str(out)]) == 0


def test_run_belongs_to_its_float_network(
    weights: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "int8"
    assert train(weights, data, out, "--steps", "2") == EXIT_OK
    content = torch.load(weights)
    content["average"]["head.bias"] += 1
    torch.save(content, weights)  # as if trained on
    assert train(weights, data, out, "--steps", "2") == EXIT_NO_INPUT
    assert "another float checkpoint; name another --output" in capsys.readouterr().err
    words = ["quantize", "color", str(weights), "--data", str(data)]
    words += ["--output", str(tmp_path / "m"), "--int8", str(out / "checkpoint.pt")]
    assert main(words) == EXIT_NO_INPUT
    assert f"was made from other weights than {weights}" in capsys.readouterr().err


def test_incompatible_checkpoints_are_named(
    weights: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = ["--seed", str(LARGEST_SEED)]
    assert train(weights, data, tmp_path / "int8", "--steps", "2", *seed) == EXIT_OK
    assert train(weights, data, tmp_path / "int8", "--steps", "3", *seed) == EXIT_NO_INPUT
    assert "made with another config: --steps 2; name another --output" in capsys.readouterr().err
    words = ["quantize", "color", str(weights), "--data", str(data)]
    words += ["--output", str(tmp_path / "m")]
    detectors = torch.load(tmp_path / "int8" / "checkpoint.pt")
    detectors["config"]["groups"] = 2
    torch.save(detectors, tmp_path / "detect.pt")
    for path, message in (
        (tmp_path / "detect.pt", "is not a checkpoint of `edge-tools train color-int8`"),
        (tmp_path / "none.pt", "none.pt is missing"),
        (weights, "is not a checkpoint of `edge-tools train color-int8`"),
    ):
        assert main([*words, "--int8", str(path)]) == EXIT_NO_INPUT
        assert message in capsys.readouterr().err
