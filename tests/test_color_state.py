from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="training needs PyTorch: pip install 'edge-camera[tools]'")
pytest.importorskip("rich", reason="training needs rich: pip install 'edge-camera[tools]'")

import torch

from color_crops import CPU, SMALL, patches
from edge.color import TERMS
from edge.errors import InputError
from tools.architectures.color import OUTPUT
from tools.cli import main
from tools.train import color as training
from tools.train import color_state as stored
from tools.train import commands


def test_epochs_are_kept_and_their_average_is_a_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = replace(SMALL, epochs=3)
    training.train(config, patches(), {}, tmp_path, CPU)
    kept = sorted((tmp_path / stored.EPOCHS).iterdir())
    assert [file.name for file in kept] == ["01.pt", "02.pt", "03.pt"]
    mean = tmp_path / "mean.pt"
    words = ["color", "average", str(kept[0]), str(kept[2]), "--output", str(mean)]
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


def test_resumed_run_records_both_command_lines(tmp_path: Path) -> None:
    first = replace(SMALL, epochs=1, commands=("edge-tools train color",))
    training.train(first, patches(), {}, tmp_path, CPU)
    path = tmp_path / stored.CHECKPOINT
    both = commands.in_order(commands.of_file(path, "train color"), ("edge-tools … --threads 2",))
    training.train(replace(SMALL, commands=both), patches(), {}, tmp_path, CPU)
    assert commands.of_file(path, "train color") == (*first.commands, "edge-tools … --threads 2")
    assert stored.load_network(path)[0].epochs == SMALL.epochs


def test_networks_that_cannot_be_averaged_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wide = replace(SMALL.architecture, widths=(8, 8, 24))
    files = []
    for number, size in enumerate((SMALL.architecture, wide)):
        config = replace(SMALL, architecture=size)
        files.append(str(tmp_path / f"{number}.pt"))
        stored.save(config, stored.start(config, CPU), Path(files[-1]))
    assert main(["color", "average", *files, "--output", str(tmp_path)]) == 1
    assert "is a folder; name a file with --output" in capsys.readouterr().err
    for few, message in (
        (files[:1], "name two or more"),
        (files, "1.pt is of another architecture"),
    ):
        assert main(["color", "average", *few, "--output", str(tmp_path / "mean.pt")]) == 66
        assert message in capsys.readouterr().err
    assert not (tmp_path / "mean.pt").exists()


def test_checkpoint_of_another_config_is_refused(tmp_path: Path) -> None:
    state = stored.start(SMALL, CPU)
    stored.save(SMALL, state, tmp_path / stored.CHECKPOINT)
    augmentation = replace(SMALL.augmentation, balance=0.5)
    other = replace(SMALL, seed=SMALL.seed + 1, augmentation=augmentation)
    message = f"another config: --seed {SMALL.seed}, --white-balance {SMALL.augmentation.balance};"
    with pytest.raises(InputError, match=message):
        stored.resume(other, tmp_path / stored.CHECKPOINT, CPU)
    with pytest.raises(InputError, match="another config: no --weights;"):
        stored.resume(replace(SMALL, weights_sha256="ab"), tmp_path / stored.CHECKPOINT, CPU)


def test_run_starts_from_the_average_of_another(tmp_path: Path) -> None:
    first = stored.start(SMALL, CPU)
    with torch.no_grad():
        first.average.head.bias += 1
    path = tmp_path / stored.CHECKPOINT
    stored.save(SMALL, first, path)
    larger = replace(SMALL, architecture=replace(SMALL.architecture, input_px=48))
    expected = first.average.state_dict()
    runs = [stored.start(config, CPU, path) for config in (replace(SMALL, seed=4), larger)]
    assert runs[1].average(torch.zeros(2, 12, 48, 48))[OUTPUT].shape == (2, len(TERMS))
    for network in (one for began in runs for one in (began.network, began.average)):
        for name, value in network.state_dict().items():
            torch.testing.assert_close(value, expected[name])
    wide = replace(SMALL, architecture=replace(SMALL.architecture, widths=(8, 8, 24)))
    with pytest.raises(InputError, match="another architecture: --widths 8,8,16; leave"):
        stored.start(wide, CPU, path)


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


def test_malformed_checkpoints_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in foreign_checkpoints(tmp_path):
        for words in (
            ["quantize", "color", str(path), "--data", "x", "--output", str(tmp_path / "m")],
            ["color", "average", str(path), str(path), "--output", str(tmp_path / "mean.pt")],
        ):
            assert main(words) == 66
            assert f"{path.name} is not a checkpoint of `edge-tools train color`" in (
                capsys.readouterr().err
            )
        with pytest.raises(InputError, match=r"is not a checkpoint of|another config"):
            stored.resume(SMALL, path, CPU)


def test_run_does_not_resume_from_the_network_of_an_epoch(tmp_path: Path) -> None:
    stored.save(SMALL, stored.start(SMALL, CPU), tmp_path / stored.CHECKPOINT)
    with pytest.raises(InputError, match="no run goes on from it"):
        stored.resume(SMALL, tmp_path / stored.EPOCHS / "00.pt", CPU)


def test_missing_checkpoint_names_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="edge-tools train color"):
        stored.load_network(tmp_path / "none.pt")


def test_resumed_run_accepts_fewer_epochs(tmp_path: Path) -> None:
    state = stored.start(SMALL, CPU)
    stored.save(SMALL, replace(state, epoch=2), tmp_path / stored.CHECKPOINT)
    assert stored.resume(replace(SMALL, epochs=3), tmp_path / stored.CHECKPOINT, CPU).epoch == 2
