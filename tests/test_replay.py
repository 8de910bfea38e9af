"""The demo clip through the daemon's pipeline gives the events of the stored reference.

`pytest tests/test_replay.py --update` rewrites the reference after an intended change; read the
difference before committing it. Each runtime has its own: their kernels round differently, and over
a clip that decides here and there whether a person at the edge of being seen is one object or two.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import edge
from edge.capture import Camera
from edge.config import BudgetConfig, CameraConfig, Config
from edge.interpreter import installed_runtime
from edge.service.parts import build_parts
from edge.values import Box, FrameResult, ObjectEvent

CLIP = Path(edge.__file__).parent / "assets" / "demo.mp4"
REFERENCES = {
    "ai-edge-litert": Path(__file__).parent / "reference" / "demo-events.json",
    "tflite-runtime": Path(__file__).parent / "reference" / "demo-events-tflite-runtime.json",
}
# A budget that every machine meets: the test is about results, not speed.
CONFIG = Config(
    cameras={"demo": CameraConfig(source=str(CLIP), realtime=False)},
    budget=BudgetConfig(frame_ms=60_000),
)


def replay() -> tuple[list[dict[str, Any]], list[FrameResult]]:
    """Return the clip's events, and the result of every frame."""
    parts = build_parts(CONFIG)
    results = []
    with Camera("demo", CONFIG.cameras["demo"]) as camera:
        while (frame := camera.take(10)) is not None or not camera.is_over:
            assert frame is not None, "the clip stopped coming"
            results.append(parts.pipelines["demo"].process(frame))
    return [_fact(result, event) for result in results for event in result.events], results


def _fact(result: FrameResult, event: ObjectEvent) -> dict[str, Any]:
    return {
        "frame": result.frame.frame_id,
        "kind": event.kind.value,
        "id": event.track.track_id,
        "label": event.track.label,
        "color": event.colors[0].name if event.colors else None,
        "score": round(event.track.score, 3),
        "box_px": [round(value, 1) for value in event.track.box_px],
    }


@pytest.fixture(scope="module")
def replayed() -> tuple[list[dict[str, Any]], list[FrameResult]]:
    return replay()


def test_clip_yields_the_reference_events(
    replayed: tuple[list[dict[str, Any]], list[FrameResult]], request: pytest.FixtureRequest
) -> None:
    events, _ = replayed
    reference_file = REFERENCES[installed_runtime()[0].split()[0]]
    if request.config.getoption("--update"):
        lines = ",\n ".join(json.dumps(event) for event in events)
        reference_file.write_text(f"[{lines}]\n")
    expected = json.loads(reference_file.read_text())
    keys = ("frame", "kind", "id", "label", "color")
    assert [[event[key] for key in keys] for event in events] == [
        [event[key] for key in keys] for event in expected
    ]
    for event, reference in zip(events, expected, strict=True):
        assert event["score"] == pytest.approx(reference["score"], abs=0.05)
        assert Box(*event["box_px"]).iou(Box(*reference["box_px"])) > 0.9


def test_every_frame_with_moving_people_is_detected_within_the_budget(
    replayed: tuple[list[dict[str, Any]], list[FrameResult]],
) -> None:
    _, results = replayed
    assert [result.frame.frame_id for result in results] == list(range(1, 251))
    assert {result.skipped for result in results} == {None}


def test_every_object_starts_once_and_ends_at_most_once(
    replayed: tuple[list[dict[str, Any]], list[FrameResult]],
) -> None:
    lives: dict[int, list[str]] = {}
    for event in replayed[0]:
        lives.setdefault(event["id"], []).append(event["kind"])
    assert len(lives) >= 4
    for kinds in lives.values():
        assert kinds[0] == "new"
        assert "new" not in kinds[1:]
        assert "end" not in kinds[:-1]


@pytest.mark.slow
def test_replay_is_reproducible(
    replayed: tuple[list[dict[str, Any]], list[FrameResult]],
) -> None:
    again, _ = replay()
    assert again == replayed[0]
