from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from edge import manifest
from edge.color import TERMS, ColorModel, shrink, softmax
from edge.errors import ModelError
from edge.interpreter import Interpreter
from edge.values import UNKNOWN_COLOR, ColorScore
from models import class_color_folder

FOLDER = Path(__file__).parents[1] / "models" / "color-64"
SIZE = (64, 64)
# sRGB of clear examples with their common names.
PROTOTYPES = {
    "black": (15, 15, 15),
    "white": (250, 250, 250),
    "gray": (128, 128, 128),
    "red": (200, 20, 30),
    "orange": (250, 130, 20),
    "yellow": (250, 225, 40),
    "green": (30, 140, 50),
    "blue": (30, 70, 190),
    "purple": (120, 40, 150),
    "pink": (250, 150, 190),
    "brown": (110, 65, 35),
}

# Colors with another name where an object in a scene may be in shade.
FURTHER = [
    ("gray", (105, 105, 105)),
    ("gray", (150, 150, 150)),
    ("white", (225, 225, 225)),
    ("pink", (255, 192, 203)),
    ("brown", (139, 69, 19)),
    ("blue", (0, 0, 128)),
    ("red", (139, 0, 0)),
    ("green", (0, 100, 0)),
]


@pytest.fixture(scope="module")
def model() -> ColorModel:
    return ColorModel(Interpreter.load(FOLDER))


def flat(rgb: tuple[int, int, int], width: int = 80, height: int = 60) -> np.ndarray:
    return np.full((height, width, 3), rgb[::-1], np.uint8)


@pytest.mark.parametrize("term", TERMS)
def test_flat_patch_of_a_clear_color_gets_its_name(model: ColorModel, term: str) -> None:
    shares = model.classify(flat(PROTOTYPES[term]))
    assert model.dominant(shares) == term


@pytest.mark.parametrize("name", ["color-64", "color-96", "color-128", "color-160"])
def test_plain_pictures_get_their_common_color_name(name: str) -> None:
    plain = [*PROTOTYPES.items(), *FURTHER]
    shipped = ColorModel(Interpreter.load(FOLDER.with_name(name)))
    found = [(rgb, shipped.classify(flat(rgb))[0].name) for _, rgb in plain]
    assert found == [(rgb, term) for term, rgb in plain]


def test_shares_name_every_term_once_best_first_and_sum_to_one(model: ColorModel) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    shares = model.classify(noise)
    assert sorted(share.name for share in shares) == sorted(TERMS)
    scores = [share.score for share in shares]
    assert scores == sorted(scores, reverse=True)
    assert sum(scores) == pytest.approx(1.0)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (3000, 2), (5, 3), (2500, 1900)])
def test_crop_of_any_size_is_classified(model: ColorModel, size: tuple[int, int]) -> None:
    crop = flat(PROTOTYPES["red"], *size)
    assert model.classify(crop)[0].name == "red"


def test_view_into_a_frame_gives_what_its_copy_gives_and_is_not_changed(model: ColorModel) -> None:
    frame = np.random.default_rng(2).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    before = frame.copy()
    crop = frame[20:200, 30:211]
    assert model.classify(crop) == model.classify(crop.copy())
    mirrored = frame[:, ::-1]
    assert model.classify(mirrored) == model.classify(mirrored.copy())
    assert np.array_equal(frame, before)


def test_classification_does_not_depend_on_earlier_crops(model: ColorModel) -> None:
    first = model.classify(flat(PROTOTYPES["green"]))
    model.classify(flat(PROTOTYPES["pink"]))
    assert model.classify(flat(PROTOTYPES["green"])) == first


def test_class_of_the_object_reaches_the_network(tmp_path: Path) -> None:
    model = ColorModel(Interpreter.load(class_color_folder(tmp_path)))
    crop = flat(PROTOTYPES["red"])
    assert model.classify(crop)[0].name == "red"
    assert model.classify(crop, "dog")[0].name == "brown"
    assert model.classify(crop, "cat") == model.classify(crop, "no such class")
    assert model.classify(crop, "cat") == model.classify(crop)


def test_crops_without_a_class_have_a_temperature_of_their_own(tmp_path: Path) -> None:
    folder, crop = class_color_folder(tmp_path), flat(PROTOTYPES["red"])
    before = ColorModel(Interpreter.load(folder))
    made = manifest.read(folder)
    decoder = msgspec.structs.replace(made.decoder, temperature_without_class=3.0)
    manifest.write(folder, msgspec.structs.replace(made, decoder=decoder))
    after = ColorModel(Interpreter.load(folder))
    assert after.classify(crop, "car") == before.classify(crop, "car")
    assert after.classify(crop)[0].score < before.classify(crop)[0].score - 0.1
    assert after.classify(crop, "no such class") == after.classify(crop)


def test_class_planes_are_full_only_for_the_objects_class(tmp_path: Path) -> None:
    model = ColorModel(Interpreter.load(class_color_folder(tmp_path)))
    crop = flat((10, 128, 255))
    for label in ("car", "dog", None):
        model.preprocess(crop, label)
        planes = model.interpreter.input_view().copy()
        assert (planes[..., :3] == np.array([10 - 128, 0, 127])).all()
        known = [127 if name == label else 0 for name in model.manifest.input.classes]
        assert (planes[..., 3:] == np.array(known)).all()


@pytest.mark.parametrize("shape", [(0, 10, 3), (10, 0, 3), (0, 0, 3)])
def test_empty_crop_is_refused(model: ColorModel, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="crop is empty"):
        model.classify(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("crop", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 3), np.float32)])
def test_gray_or_float_image_is_refused(model: ColorModel, crop: np.ndarray) -> None:
    with pytest.raises(ValueError, match="crop must be uint8"):
        model.classify(crop)


def test_input_tensor_holds_the_rgb_levels_of_the_crop(model: ColorModel) -> None:
    crop = np.random.default_rng(3).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    model.preprocess(crop)
    levels = model.interpreter.input_view().astype(int) + 128
    assert np.array_equal(levels[..., :3], crop[..., ::-1])
    assert (levels[..., 3:] == 128).all()  # the class of the object is not given


def test_dominant_is_unknown_below_the_threshold(model: ColorModel) -> None:
    threshold = model.manifest.decoder.unknown_below
    assert 0 < threshold < 1
    assert model.dominant([ColorScore("red", threshold)]) == "red"
    assert model.dominant([ColorScore("red", threshold - 0.001)]) == UNKNOWN_COLOR


def test_golden_picture_gets_the_shares_of_the_manifest(model: ColorModel) -> None:
    golden = model.manifest.golden
    assert golden is not None
    picture = cv2.imread(str(FOLDER / golden.file))
    shares = {share.name: share.score for share in model.classify(np.asarray(picture, np.uint8))}
    assert shares == pytest.approx(golden.shares, abs=golden.tolerance)


def test_manifest_lists_the_eleven_terms_in_order(model: ColorModel) -> None:
    assert model.manifest.labels == TERMS
    assert model.manifest.parameters <= 1_000_000
    assert model.manifest.certificate.integer_only


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"task": "detect"}, "name a color model"),
        ({"decoder": manifest.Decoder(name="yolox")}, "name a color model"),
    ],
)
def test_model_of_another_task_is_refused(
    tmp_path: Path, changes: dict[str, object], complaint: str
) -> None:
    folder = tmp_path / "other"
    shutil.copytree(FOLDER, folder)
    manifest.write(folder, msgspec.structs.replace(manifest.read(folder), **changes))
    with pytest.raises(ModelError, match=complaint):
        ColorModel(Interpreter.load(folder))


@pytest.mark.parametrize("change", [{"range": "0..255"}, {"resize": "letterbox"}])
def test_model_with_another_input_range_or_resize_is_refused(
    tmp_path: Path, change: dict[str, str]
) -> None:
    folder = tmp_path / "other"
    shutil.copytree(FOLDER, folder)
    original = manifest.read(folder)
    image = msgspec.structs.replace(original.input, **change)
    manifest.write(folder, msgspec.structs.replace(original, input=image))
    with pytest.raises(ModelError, match="quantize it again"):
        ColorModel(Interpreter.load(folder))


@pytest.mark.parametrize("side", [64, 95, 96, 128, 333, 1024])
def test_shrinking_does_not_alias(side: int) -> None:
    stripes = np.zeros((side, side, 3), np.uint8)
    stripes[:, ::2] = 255  # one pixel wide: a step that skips pixels shows them as flat or moiré
    shrunk = shrink(stripes, SIZE)
    if side >= 2 * SIZE[0]:
        assert np.abs(shrunk.astype(int) - 127).max() <= 48
    assert shrunk.mean() == pytest.approx(127.5, abs=4)


def test_shrinking_by_whole_halves_is_the_mean_of_blocks() -> None:
    crop = np.random.default_rng(4).integers(0, 256, (256, 128, 3), dtype=np.uint8)
    blocks = crop.reshape(64, 4, 64, 2, 3).mean((1, 3))
    assert np.abs(shrink(crop, SIZE) - blocks).max() <= 1.5


def test_softmax_survives_extreme_levels() -> None:
    assert softmax([-128, 127], 1e3) == [0.0, 1.0]
    assert softmax([5, 5], 0.1) == [0.5, 0.5]
