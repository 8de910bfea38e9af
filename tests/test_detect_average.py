"""The average of detectors' float weights: `edge-tools detect average`."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from edge.errors import EXIT_USAGE  # noqa: E402
from tools.architectures import yolox  # noqa: E402
from tools.cli import main  # noqa: E402


def network(path: Path, seed: int, **choices: object) -> yolox.YoloxNano:
    torch.manual_seed(seed)
    net = yolox.YoloxNano(**{"is_rectified": True, **choices})  # type: ignore[arg-type]
    yolox.save(net, path, f"seed {seed}")
    return net


def test_average_is_weighted_and_records_its_parts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other, out = tmp_path / "one.pt", tmp_path / "other:2.pt", tmp_path / "new" / "mean.pt"
    first, second = network(one, 1), network(other, 2)
    assert main(["detect", "average", f"{one}:3", str(other), "--output", str(out)]) == 0
    mean = yolox.load(out)
    for made, a, b in zip(mean.parameters(), first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(made, 0.75 * a + 0.25 * b)
    assert yolox.origin(out) == "seed 1 and seed 2; the mean of 2 trainings, 0.75 + 0.25"
    assert "0.75 + 0.25" in capsys.readouterr().out


def test_networks_of_another_kind_are_refused_with_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, whole, forklift = (tmp_path / name for name in ("one.pt", "whole.pt", "forklift.pt"))
    network(one, 1)
    network(whole, 2, is_rectified=False)
    network(forklift, 3, labels=("forklift",))
    out = tmp_path / "mean.pt"
    for files in ([one], [one, whole], [one, forklift], [one, tmp_path / "none.pt"]):
        assert main(["detect", "average", *map(str, files), "--output", str(out)]) > 0
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert files[-1].name in error or "two or more" in error
    with pytest.raises(SystemExit) as ended:
        main(["detect", "average", f"{one}:0", str(one), "--output", str(out)])
    assert ended.value.code == EXIT_USAGE
    assert not out.exists()
