"""A training run of the detector, small enough for a test: it resumes where it stopped."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("pycocotools")
pytest.importorskip("rich")

from edge import manifest  # noqa: E402
from edge.errors import EXIT_NO_INPUT, EXIT_USAGE, InputError  # noqa: E402
from stopping import assert_same_weights, stopped_and_whole  # noqa: E402
from tools import quantize_detect, tracking  # noqa: E402
from tools.architectures import yolox  # noqa: E402
from tools.cli import main  # noqa: E402
from tools.coco_labels import NAMES  # noqa: E402
from tools.input_size import InputSize  # noqa: E402
from tools.train import detect_int8, detect_state, distil  # noqa: E402

WEIGHTS = yolox.WEIGHTS
PUBLISHED = Path(__file__).parents[2] / "shared" / "weights" / "yolox_nano.onnx"
needs_published = pytest.mark.skipif(
    not PUBLISHED.exists(), reason="the published weights are not on this machine"
)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with a COCO file of 20 colored pictures, each with one person somewhere."""
    chance = np.random.default_rng(2)
    images = []
    for number in range(1, 21):
        noise = chance.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / f"{number}.png"), cv2.resize(noise, (80, 60)))
        images.append({"id": number, "file_name": f"{number}.png", "width": 80, "height": 60})
    boxes = [
        {"id": n, "image_id": n, "category_id": 1, "bbox": [9, 9, 20, 30], "area": 600}
        for n in range(1, 21)
    ]
    document = {
        "images": images,
        "annotations": boxes,
        "categories": [{"id": 1, "name": "person"}],
    }
    (tmp_path / "set.json").write_text(json.dumps(document))
    return tmp_path


def train(pictures: Path, out: Path, steps: int, *more: str) -> None:
    parser = argparse.ArgumentParser()
    detect_int8.add_arguments(parser)
    coco = str(pictures / "set.json")
    arguments = ["--weights", str(WEIGHTS), "--train", coco, "--val", coco, "--every", "1"]
    arguments += ["--images", str(pictures), "--size", "64", "--steps", str(steps)]
    assert detect_int8.run(parser.parse_args([*arguments, "--output", str(out), *more])) == 0


def test_stopped_run_resumes_and_ends_with_the_same_weights(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(out: Path) -> None:
        train(pictures, out, 2)

    assert_same_weights(*stopped_and_whole(run, detect_int8, tmp_path, monkeypatch))
    assert len((tmp_path / "parts" / "metrics.jsonl").read_text().splitlines()) == 2


def test_validation_set_without_a_class_of_the_weights_is_refused(pictures: Path) -> None:
    path = pictures / "set.json"
    path.write_text(path.read_text().replace('"person"', '"forklift"'))
    with pytest.raises(InputError, match=r"none of its objects is one of person,.* --weights$"):
        train(pictures, pictures / "run", 1)
    assert not (pictures / "run").exists()


def test_classes_that_the_weights_lack_do_not_lower_the_figure(pictures: Path) -> None:
    path = pictures / "set.json"
    document = json.loads(path.read_text())
    document["categories"].append({"id": 2, "name": "forklift"})
    document["annotations"].append(document["annotations"][0] | {"id": 99, "category_id": 2})
    path.write_text(json.dumps(document))
    train(pictures, pictures / "run", 1)
    (line,) = (pictures / "run" / "metrics.jsonl").read_text().splitlines()
    assert [*json.loads(line)["classes"]] == ["person"]


def test_missing_weights_are_a_missing_input(
    pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coco = str(pictures / "set.json")
    words = ["--train", coco, "--val", coco, "--images", str(pictures), "--groups", "1"]
    words += ["--weights", str(pictures / "gone.pt"), "--output", str(pictures / "run")]
    assert main(["train", "detect-int8", *words]) == EXIT_NO_INPUT
    assert "gone.pt" in capsys.readouterr().err
    words[-3] = str(pictures)
    assert main(["train", "detect-int8", *words]) == EXIT_NO_INPUT
    assert capsys.readouterr().err == f"edge-tools: {pictures} is a folder; name a file in it\n"


def test_run_and_conversion_are_recorded(pictures: Path, tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    train(pictures, tmp_path / "run", 2)
    store = f"sqlite:///{os.environ['MLFLOW_TRACKING_URI']}/mlflow.db"
    client = MlflowClient(tracking_uri=store)
    run = client.get_run((tmp_path / "run" / tracking.RUN_FILE).read_text().strip())
    assert run.data.params["size"] == "64x64"
    assert len(run.data.params["data_sha256"]) == 64
    for name in ("loss", "learning_rate", "images_per_s", "ap", "ap50"):
        assert [point.step for point in client.get_metric_history(run.info.run_id, name)] == [1, 2]
    parser = argparse.ArgumentParser()
    quantize_detect.add_arguments(parser)
    checkpoint = str(tmp_path / "run" / "checkpoint.pt")
    words = ["--weights", str(WEIGHTS), "--size", "64", "--checkpoint", checkpoint]
    quantize_detect.run(parser.parse_args([*words, "--output", str(tmp_path / "model")]))
    experiment = client.get_experiment_by_name("quantize-detect")
    (made, *_) = client.search_runs([experiment.experiment_id])
    assert "2 steps" in made.data.params["method"]
    assert [one.path for one in client.list_artifacts(made.info.run_id)] == [
        "CARD.md",
        "manifest.json",
        "model.tflite",
    ]


def test_checkpoint_is_converted_at_another_size(pictures: Path, tmp_path: Path) -> None:
    train(pictures, tmp_path / "run", 1)
    parser = argparse.ArgumentParser()
    quantize_detect.add_arguments(parser)
    arguments = ["--weights", str(WEIGHTS), "--size", "128x96"]
    arguments += ["--checkpoint", str(tmp_path / "run" / "best.pt")]
    arguments += ["--output", str(tmp_path / "own-128"), "--version", "1.2.0"]
    assert quantize_detect.run(parser.parse_args(arguments)) == 0
    made = manifest.read(tmp_path / "own-128")
    assert (made.name, made.version) == ("own-128", "1.2.0")
    assert made.input.shape == (1, 96, 128, 3)
    assert "1 steps" in made.training["method"]


def test_checkpoint_of_other_weights_is_refused(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(pictures, tmp_path / "run", 1)
    other = tmp_path / "other.pt"
    yolox.save(yolox.YoloxNano(labels=("forklift",)), other, "random")
    words = ["--weights", str(other), "--checkpoint", str(tmp_path / "run" / "best.pt")]
    words += ["--output", str(tmp_path / "own")]
    assert main(["quantize", "detect", *words]) == EXIT_NO_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert f"best.pt was made from other weights than {other}" in line
    assert not (tmp_path / "own").exists()


def test_new_card_gets_figures_and_an_existing_card_keeps_its_text(
    pictures: Path, tmp_path: Path
) -> None:
    made = tmp_path / "own-64"
    coco = ["--annotations", str(pictures / "set.json"), "--images", str(pictures)]
    words = ["quantize", "detect", "--weights", str(WEIGHTS), *coco, "--size", "64"]
    words += ["--count", "4", "--output", str(made)]
    assert main(words) == 0
    card = (made / "CARD.md").read_text()
    for part in ("# own-64", "person, bicycle", "Apache-2.0", "post-training quantization"):
        assert part in card
    assert "Not measured yet" in card
    assert main(["evaluate", "detect", str(made), *coco, "--runs", "1", "--record"]) == 0
    card = (made / "CARD.md").read_text()
    assert "| person | 20 |" in card
    assert "Not measured yet" not in card
    assert main([*words, "--count", "3"]) == 0
    card = (made / "CARD.md").read_text()  # of the new model: no text of its own was written
    assert "3 pictures for the ranges" in card
    assert "Not measured yet" in card
    assert main(["evaluate", "detect", str(made), *coco, "--runs", "1", "--record"]) == 0
    card = (made / "CARD.md").read_text()
    (made / "CARD.md").write_text(card.replace("# own-64", "# Mine"))
    assert main(words) == 0
    card = (made / "CARD.md").read_text()
    assert card.startswith("# Mine")
    assert "Not measured yet" in card
    assert "| person | 20 |" not in card


def test_checkpoint_of_another_config_is_refused(pictures: Path, tmp_path: Path) -> None:
    train(pictures, tmp_path / "run", 1)
    with pytest.raises(InputError, match="another config: --size 64x64, --steps 1; "):
        train(pictures, tmp_path / "run", 2, "--size", "96x64")
    other = pictures / "val.json"
    other.write_text((pictures / "set.json").read_text())
    with pytest.raises(InputError, match="another config: another --val; "):
        train(pictures, tmp_path / "run", 1, "--val", str(other))
    coco = pictures / "set.json"
    coco.write_text(coco.read_text() + "\n")
    with pytest.raises(InputError, match="another config: another --train, another --val; "):
        train(pictures, tmp_path / "run", 1)


def test_run_without_improvement_stops_early(
    pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "tools")
    train(pictures, tmp_path / "run", 4, "--patience", "1")  # AP50 is and stays 0
    train(pictures, tmp_path / "run", 4, "--patience", "1")
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 2
    assert sum("images_per_s=" in line for line in caplog.messages) == 2
    assert "train.ended_early step=2 of=4: no gain in --patience 1 " in caplog.messages[-1]
    assert manifest.read(tmp_path / "run" / "best").name == "run"


def test_fewer_pictures_than_a_batch_are_repeated(pictures: Path, tmp_path: Path) -> None:
    coco = pictures / "set.json"
    content = json.loads(coco.read_text())
    coco.write_text(json.dumps(content | {"images": content["images"][:3], "annotations": []}))
    train(pictures, tmp_path / "run", 1)
    assert (tmp_path / "run" / "best.pt").is_file()  # though there is no object to find


def test_float_weights_without_pictures_are_refused(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    quantize_detect.add_arguments(parser)
    with pytest.raises(InputError, match="--annotations"):
        quantize_detect.run(parser.parse_args(["--weights", "w.onnx", "--output", str(tmp_path)]))


@pytest.mark.parametrize(
    "words", [["quantize", "detect"], ["train", "detect-int8"], ["train", "detect"]]
)
@pytest.mark.parametrize("empty", ["train", "val"])
def test_a_set_without_pictures_is_named(
    pictures: Path, words: list[str], empty: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = pictures / "empty.json"
    path.write_text(json.dumps({"images": [], "annotations": [], "categories": []}))
    sets = {"train": str(pictures / "set.json"), "val": str(pictures / "set.json")}
    sets[empty] = str(path)
    more = ["--train", sets["train"], "--val", sets["val"], "--output", str(pictures / "run")]
    if words[0] == "quantize":
        more = ["--annotations", str(path), "--output", str(pictures / "run")]
    assert main([*words, *more, "--images", str(pictures)]) == EXIT_NO_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"edge-tools: annotations {path}: no picture in it; name another file"
    assert not (pictures / "run").exists()


@pytest.mark.parametrize("name", ["none.jpg", "set.json"])
def test_unreadable_golden_picture_is_named_before_the_work(
    pictures: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    coco = ["--annotations", str(pictures / "set.json"), "--images", str(pictures)]
    golden = ["--golden", str(pictures / name), "--output", str(pictures / "own")]
    assert main(["quantize", "detect", *coco, *golden]) == EXIT_NO_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert str(pictures / name) in line
    assert not (pictures / "own").exists()


@pytest.mark.parametrize("option", ["--count", "--groups", "--threads"])
def test_zero_count_groups_or_threads_is_a_usage_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    with pytest.raises(SystemExit):
        main(["quantize", "detect", "--output", str(tmp_path), option, "0"])
    assert f"argument {option}: '0' is not a whole number" in capsys.readouterr().err


def test_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.pt"):
        detect_state.trained(tmp_path / "none.pt", WEIGHTS, InputSize(64, 64))


def test_loss_is_lowest_for_the_outputs_of_the_teacher() -> None:
    torch.manual_seed(1)
    shapes = {"box": 4, "objectness": 1, "class": 9}
    teacher = {f"{kind}_8": torch.randn(2, count, 5, 5) for kind, count in shapes.items()}
    same = distil.loss(teacher, teacher, (8,))
    for kind in shapes:
        other = teacher | {f"{kind}_8": teacher[f"{kind}_8"] + 0.5}
        assert distil.loss(other, teacher, (8,)) > same


def test_mirrored_teacher_outputs_match_those_of_the_mirrored_picture() -> None:
    net = yolox.load(WEIGHTS)
    images = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(3)) * 255
    with torch.no_grad():
        there, back = (
            distil.mirror_averaged(net, images),
            distil.mirror_averaged(net, images.flip(3)),
        )
    for name, value in back.items():
        turned = value.flip(3)
        if name.startswith("box_"):
            turned[:, 0] = 1 - turned[:, 0]
        torch.testing.assert_close(turned, there[name], rtol=1e-4, atol=1e-3)
    with torch.no_grad():
        assert not torch.allclose(there["class_8"], net(images)["class_8"], atol=0.1)


def test_objectness_of_our_classes_keeps_the_scores() -> None:
    torch.manual_seed(1)
    shapes = {"box": 4, "objectness": 1, "class": 9}
    outputs = {f"{kind}_8": torch.randn(2, count, 5, 5) for kind, count in shapes.items()}
    ours = distil.own_classes_only(outputs, (8,))
    before, after = (
        torch.sigmoid(made["objectness_8"]) * torch.sigmoid(made["class_8"])
        for made in (outputs, ours)
    )
    assert torch.allclose(before, after, atol=1e-3)
    assert (ours["objectness_8"] <= outputs["objectness_8"]).all()


def test_split_stem_computes_the_same_function() -> None:
    value = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 255
    groups = [[5, 3, 9], [0, 1, 2, 4, 6, 7, 8], list(range(10, 16))]
    with torch.no_grad():
        whole, split = yolox.load(WEIGHTS)(value), yolox.load(WEIGHTS, groups)(value)
    for name, wanted in whole.items():
        assert torch.allclose(split[name], wanted, atol=1e-3)


@needs_published
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the reference evaluator's own exp
def test_network_equals_the_published_file() -> None:
    import onnx
    from onnx.reference import ReferenceEvaluator

    value = np.random.default_rng(0).integers(0, 256, (1, 3, 416, 416)).astype(np.float32)
    wanted = ReferenceEvaluator(onnx.load(PUBLISHED)).run(None, {"images": value})[0][0]
    with torch.no_grad():
        made = yolox.load(PUBLISHED)(torch.from_numpy(value))
    rows = []
    for stride in yolox.STRIDES:
        box, objectness, classes = (
            made[f"{kind}_{stride}"][0].flatten(1) for kind in ("box", "objectness", "class")
        )
        rows.append(torch.cat([box, objectness.sigmoid(), classes.sigmoid()]).T)
    columns = [*range(5), *(5 + NAMES.index(label) for label in yolox.LABELS)]
    assert np.abs(torch.cat(rows).numpy() - wanted[:, columns]).max() < 1e-3


NEEDS_BOTH = "is missing: --model takes pictures with both or not at all"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "m", "--weights", "w", "--count", "9"], "--model takes no --count, --weights"),
        (["--model", "m", "--silu-floor=-8"], "--model takes no --silu-floor"),
        (["--model", "m", "--images", "."], f"--annotations {NEEDS_BOTH}"),
        (["--model", "m", "--annotations", "a.json"], f"--images {NEEDS_BOTH}"),
        (["--checkpoint", "c", "--stem-rank", "12"], "--checkpoint takes no --stem-rank"),
        (["--checkpoint", "c", "--images", "."], "--checkpoint takes no --images"),
    ],
)
def test_option_of_another_source_is_a_usage_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(["quantize", "detect", "--output", str(tmp_path / "m"), *words]) == EXIT_USAGE
    assert capsys.readouterr().err == f"edge-tools: {message}\n"
