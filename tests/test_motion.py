"""The motion gate on drawn scenes and on the demo's clip."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.config import MotionConfig
from edge.motion import WIDTH_PX, Motion, MotionGate, small_gray, watched_pixels
from edge.values import Image

CONFIG = MotionConfig(threshold=18, min_area=0.002, hold_s=2.0)
CLIP = Path(__file__).parent.parent / "edge/assets/demo.mp4"
QUIET = np.linspace(40, 180, 640 * 480).reshape(480, 640, 1).repeat(3, axis=2).astype(np.uint8)


def with_person(x: int, y: int = 200) -> Image:
    bgr = QUIET.copy()
    bgr[y : y + 100, x : x + 40] = 250
    return bgr


def settled_gate(**changes) -> MotionGate:
    """A gate that has seen the quiet scene for 5 s, until now_s = 5, and is closed."""
    masks = changes.pop("masks", ())
    gate = MotionGate(MotionConfig(threshold=18, min_area=0.002, hold_s=2.0, **changes), masks)
    assert not last(gate, [QUIET] * 51).is_moving
    return gate


def last(gate: MotionGate, scene: list[Image], start_s: float = 0.0) -> Motion:
    return [gate.update(bgr, start_s + index / 10) for index, bgr in enumerate(scene)][-1]


def lit(gain: float) -> Image:
    return np.clip(QUIET * gain, 0, 255).astype(np.uint8)


def test_first_frame_counts_as_motion():
    motion = MotionGate(CONFIG).update(QUIET, 0.0)
    assert motion.is_moving
    assert motion.area == 1.0


def test_moving_object_opens_the_gate():
    motion = settled_gate().update(with_person(320), 5.1)
    assert motion.is_moving
    assert motion.area == pytest.approx(40 * 100 / (640 * 480), rel=0.15)


def test_gate_stays_open_for_the_hold_time_after_the_last_motion():
    gate = settled_gate()
    gate.update(with_person(320), 5.1)
    opens = [gate.update(QUIET, now_s).is_moving for now_s in (5.2, 7.0, 7.2)]
    assert opens == [True, True, False]


def test_motion_in_a_mask_is_ignored_and_the_rest_still_counts():
    left_half = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
    gate = settled_gate(masks=[left_half])
    assert not gate.update(with_person(100), 5.1).is_moving
    motion = gate.update(with_person(500), 5.2)
    assert motion.is_moving
    assert motion.area == pytest.approx(2 * 40 * 100 / (640 * 480), rel=0.15)


def test_fully_masked_picture_never_has_motion():
    everything = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
    gate = MotionGate(CONFIG, [everything])
    assert not gate.update(QUIET, 0.0).is_moving
    assert not gate.update(with_person(100), 0.1).is_moving


def test_mask_covers_its_own_pixels_only():
    top_left = ((0.0, 0.0), (0.25, 0.0), (0.25, 0.5), (0.0, 0.5))
    watched = watched_pixels([top_left], (120, 160))
    assert not watched[:59, :39].any()
    assert watched[61:, :].all()
    assert watched[:, 41:].all()


@pytest.mark.parametrize("gain_per_frame", [1.01, 0.99])
def test_slow_change_of_light_is_not_motion(gain_per_frame: float):
    gate = settled_gate()
    gains = [gain_per_frame**index for index in range(40)]
    scene = [gate.update(lit(gain), 5.1 + index / 10) for index, gain in enumerate(gains)]
    assert not any(motion.is_moving for motion in scene)


def test_sudden_change_of_light_is_not_motion():
    assert not settled_gate().update(lit(0.7), 5.1).is_moving


def test_person_is_seen_although_the_light_changes():
    bgr = lit(0.7)
    bgr[200:300, 320:360] = 250
    assert settled_gate().update(bgr, 5.1).is_moving


@pytest.mark.parametrize("level", [10, 250])
def test_large_object_that_drives_in_is_not_taken_for_a_change_of_light(level: int):
    gate = settled_gate()
    for index in range(1, 26):
        bgr = QUIET.copy()
        bgr[:, : 10 * index] = level
        motion = gate.update(bgr, 5 + index / 10)
        assert motion.area == pytest.approx(10 * index / 640, rel=0.2)


def test_lamp_that_is_switched_off_is_motion():
    assert settled_gate().update(lit(0.3), 5.1).is_moving


def test_smallest_area_of_0_needs_one_pixel_that_moves():
    gate = MotionGate(MotionConfig(min_area=0))
    assert not last(gate, [QUIET] * 51).is_moving
    assert gate.update(with_person(320), 5.1).is_moving


def test_new_scene_is_motion_once_and_then_the_background():
    gate = settled_gate()
    turned = np.ascontiguousarray(QUIET[::-1])
    assert gate.update(turned, 5.1).is_moving
    motion = last(gate, [turned] * 30, 5.2)
    assert (motion.is_moving, motion.area) == (False, 0.0)


def test_sensor_noise_is_not_motion():
    chance = np.random.default_rng(0)
    noisy = [np.clip(QUIET + chance.normal(0, 10, QUIET.shape), 0, 255) for _ in range(30)]
    gate = MotionGate(CONFIG)
    areas = [gate.update(bgr.astype(np.uint8), index / 10).area for index, bgr in enumerate(noisy)]
    assert max(areas[1:]) == 0.0


@pytest.mark.parametrize("rate_hz", [10, 30])
def test_stationary_object_becomes_background_slowly(rate_hz: int):
    gate, bgr = settled_gate(), with_person(320)
    opens = [gate.update(bgr, 5.1 + i / rate_hz).is_moving for i in range(100 * rate_hz)]
    assert opens.index(False) > 10 * rate_hz
    assert not opens[-1]


@pytest.mark.parametrize("rate_hz", [3, 10, 50])
def test_background_adapts_by_time_not_by_frame_count(rate_hz: int):
    gate = settled_gate()
    dawn_s = 8
    count = dawn_s * rate_hz
    haze = [np.uint8(40 * index / count) for index in range(count)]
    scene = [gate.update(QUIET + added, 5.1 + i / rate_hz) for i, added in enumerate(haze)]
    assert not any(motion.is_moving for motion in scene)


def test_after_a_long_gap_the_picture_is_the_background():
    by_side = np.where(np.arange(640) < 320, 14, -14).reshape(1, 640, 1)  # no change of light
    gate = settled_gate()
    scene = [(QUIET + times * by_side).astype(np.uint8) for times in (1, 0, 2)]
    assert not last(gate, scene, 15.0).is_moving


def test_after_a_long_gap_what_stands_there_is_the_background():
    gate = settled_gate()
    opens = [gate.update(with_person(320), now_s).is_moving for now_s in (5.1, 65.0, 68.0)]
    assert opens == [True, True, False]


def test_change_over_a_second_is_motion():
    by_side = np.where(np.arange(640) < 320, 28, -28).reshape(1, 640, 1)  # no change of light
    scene = [(QUIET + by_side * (index / 10)).astype(np.uint8) for index in range(11)]
    assert last(settled_gate(), scene, 5.1).is_moving


def test_change_of_frame_size_restarts_the_gate():
    gate = settled_gate()
    assert gate.update(np.zeros((90, 500, 3), dtype=np.uint8), 5.1).is_moving
    assert not gate.update(np.zeros((90, 500, 3), dtype=np.uint8), 8.1).is_moving


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 5000, 3), (5000, 1, 3)])
def test_odd_frame_sizes_work(shape: tuple[int, int, int]):
    gate = MotionGate(CONFIG)
    bgr = np.full(shape, 90, dtype=np.uint8)
    assert gate.update(bgr, 0.0).is_moving
    assert not gate.update(bgr, 3.0).is_moving


def test_black_picture_then_light_does_not_divide_by_zero():
    gate = MotionGate(CONFIG)
    gate.update(np.zeros_like(QUIET), 0.0)
    assert gate.update(QUIET, 0.1).is_moving


def test_gate_does_not_touch_the_frame_and_works_on_a_small_gray_image():
    bgr = with_person(10)
    before = bgr.copy()
    MotionGate(CONFIG).update(bgr, 0.0)
    assert np.array_equal(bgr, before)
    gray = small_gray(bgr)
    assert (gray.shape, gray.dtype) == ((120, WIDTH_PX), np.uint8)


def test_default_settings_detect_walking_people_in_the_demo_clip():
    capture, gate, areas = cv2.VideoCapture(str(CLIP)), MotionGate(MotionConfig()), []
    while (bgr := capture.read()[1]) is not None:
        motion = gate.update(np.asarray(bgr, dtype=np.uint8), len(areas) / 10)
        areas.append(motion.area)
        assert motion.is_moving
    capture.release()
    assert len(areas) == 250
    assert min(areas) > 5 * MotionConfig().min_area
