"""The displayed color of a name: the table of names, the median of pixels, CIELAB."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge import swatch
from edge.color import TERMS

RED, BLUE = TERMS.index("red"), TERMS.index("blue")
# sRGB to CIELAB (D65), as Bruce Lindbloom's calculator gives them.
KNOWN_LAB = {
    (255, 255, 255): (100.0, 0.0, 0.0),
    (0, 0, 0): (0.0, 0.0, 0.0),
    (255, 0, 0): (53.2, 80.1, 67.2),
    (0, 0, 255): (32.3, 79.2, -107.9),
    (128, 128, 128): (53.6, 0.0, 0.0),
    (10, 10, 10): (2.7, 0.0, 0.0),
}


def halves() -> np.ndarray:
    """A crop whose left half is red, the right one blue, a red stripe at its right edge."""
    rgb = np.full((16, 16, 3), (200, 20, 30), np.uint8)
    rgb[:, 8:14] = (30, 60, 190)
    rgb[:, 14:] = (120, 10, 15)
    return rgb


@pytest.mark.parametrize(("rgb", "lab"), KNOWN_LAB.items(), ids=str)
def test_cielab_matches_the_standard(
    rgb: tuple[int, int, int], lab: tuple[float, float, float]
) -> None:
    assert swatch.lab_of(rgb) == pytest.approx(lab, abs=0.11)


def test_clear_colors_have_their_names() -> None:
    pixels = np.array(
        [(10, 10, 10), (250, 250, 250), (128, 128, 128), (200, 10, 20), (30, 60, 190)], np.uint8
    )
    names = [TERMS[index] for index in swatch.terms_of(pixels)]
    assert names == ["black", "white", "gray", "red", "blue"]


def test_swatch_is_the_median_of_the_pixels_with_the_name() -> None:
    rgb = halves()
    terms = swatch.terms_of(rgb)
    assert swatch.swatch(rgb, terms, BLUE) == (30, 60, 190)
    assert swatch.swatch(rgb, terms, RED) == (200, 20, 30)
    assert swatch.swatch(rgb, terms, TERMS.index("yellow")) is None


def test_pixels_count_where_the_cells_support_the_color() -> None:
    rgb = halves()
    terms = swatch.terms_of(rgb)
    evidence = np.full((4, 8), -100, np.int8)
    evidence[:, 7] = 90  # the stripe
    assert swatch.swatch(rgb, terms, RED, evidence) == (120, 10, 15)
    # No pixel there is blue: the cells alone decide.
    assert swatch.swatch(rgb, terms, BLUE, evidence) == (120, 10, 15)
    flat = np.zeros((4, 8), np.int8)
    assert swatch.swatch(rgb, terms, RED, flat) == (200, 20, 30)


def test_table_is_written_to_the_given_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    from tools.cli import main

    assert main(["color", "names", "--output", str(tmp_path / "names")]) == 0
    assert [file.name for file in tmp_path.iterdir()] == ["names"]
    assert np.array_equal(np.load(tmp_path / "names"), np.load(swatch.TABLE_FILE))
    assert main(["color", "names", "--output", str(tmp_path)]) == 1
    assert "Is a directory; name another place" in capsys.readouterr().err


def test_shipped_table_is_what_the_command_makes() -> None:
    pytest.importorskip("matplotlib")
    from tools.color.name_table import table

    shipped = np.load(swatch.TABLE_FILE)
    made = table()
    # Nearest neighbours at equal distance may change places from one CPU to another.
    assert (made != shipped).mean() < 0.001
