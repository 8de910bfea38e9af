"""Payloads: strict both ways, commands refused with one line, an event's body never changes."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge import messages
from edge.messages import (
    COMMANDS,
    Event,
    Message,
    Pause,
    Reload,
    SetThresholds,
    Topics,
    decode_command,
)
from edge.values import (
    Box,
    ColorScore,
    Detection,
    EventKind,
    Frame,
    FrameResult,
    ObjectEvent,
    Track,
    TrackState,
)

BOOT_ID = "0123456789abcdef0123456789abcdef"


def frame_result(detections: tuple[Detection, ...] = ()) -> FrameResult:
    frame = Frame("front", 7, np.zeros((480, 640, 3), np.uint8), 100.0, 1_700_000_000.5, 100.0)
    return FrameResult(frame, None, detections, (), (), stage_ms={"detector": 12.3456})


CAR_PX = Box(64.04, 48.0, 320.0, 240.0)
COLORS = (ColorScore("blue", 0.83214, (0, 0, 255)), ColorScore("gray", 0.16786))


def object_event(box_px: Box = CAR_PX) -> ObjectEvent:
    track = Track(3, "car", 0.87654, box_px, TrackState.CONFIRMED, 95.12345, 100.0, 12)
    return ObjectEvent(EventKind.NEW, track, 0.91236, COLORS, ("door",))


def encoded_body(event: ObjectEvent) -> bytes:
    body = messages.event_body(
        event, frame_result(), boot_id=BOOT_ID, now_s=100.056789, clock_synced=True
    )
    return messages.encode(body)


def test_event_has_all_documented_fields():
    body = json.loads(encoded_body(object_event()))
    assert body == {
        "id": "01234567-front-3",
        "kind": "new",
        "camera": "front",
        "frame_id": 7,
        "label": "car",
        "score": 0.8765,
        "best_score": 0.9124,
        "box": {"x": 0.10006, "y": 0.1, "w": 0.5, "h": 0.5},
        "box_px": {"x": 64.0, "y": 48.0, "w": 320.0, "h": 240.0},
        "frame_size": [640, 480],
        "colors": [
            {"name": "blue", "score": 0.8321, "rgb": [0, 0, 255], "lab": [32.3, 79.2, -107.9]},
            {"name": "gray", "score": 0.1679},
        ],
        "zones": ["door"],
        "captured_utc": "2023-11-14T22:13:20.500Z",
        "clock_synced": True,
        "duration_s": 4.877,
        "latency_ms": 56.79,
        "stages_ms": {"detector": 12.35},
    }


@given(*[st.floats(-2000, 2000)] * 2, *[st.floats(0, 3000)] * 2)
def test_published_box_lies_in_the_frame(x: float, y: float, width: float, height: float):
    body = json.loads(encoded_body(object_event(Box(x, y, width, height))))
    box, box_px = body["box"], body["box_px"]
    assert 0 <= box["x"] <= box["x"] + box["w"] <= 1.00002
    assert 0 <= box["y"] <= box["y"] + box["h"] <= 1.00002
    assert 0 <= box_px["x"] + box_px["w"] <= 640.11
    assert 0 <= box_px["y"] + box_px["h"] <= 480.11


def test_box_inside_the_frame_is_published_as_it_is():
    body = json.loads(encoded_body(object_event(Box(600.5, 0.0, 39.5, 480.0))))
    assert body["box_px"] == {"x": 600.5, "y": 0.0, "w": 39.5, "h": 480.0}


def test_stamping_keeps_the_encoded_body_and_makes_a_valid_event():
    body = encoded_body(object_event())
    sent = [
        messages.stamp_event(body, seq=9, boot_id=BOOT_ID, historical=late, published_s=at)
        for late, at in ((False, 1_700_000_001.0), (True, 1_700_000_900.0))
    ]
    assert all(payload.startswith(body[:-1]) for payload in sent)
    first, again = (msgspec.json.decode(payload, type=Event, strict=True) for payload in sent)
    assert (first.seq, first.boot_id, first.historical) == (9, BOOT_ID, False)
    assert again.historical
    assert msgspec.structs.replace(again, historical=False, published_utc=first.published_utc) == (
        first
    )


def test_unstamped_body_and_unknown_keys_are_refused_as_event():
    body = encoded_body(object_event())
    with pytest.raises(msgspec.ValidationError, match="seq"):
        msgspec.json.decode(body, type=Event)
    stamped = messages.stamp_event(body, seq=1, boot_id="b", historical=False, published_s=0.0)
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.json.decode(stamped[:-1] + b',"more":1}', type=Event)


def test_detections_carry_normalized_boxes():
    found = Detection("cat", 0.51239, Box(320.04, 240.0, 64.0, 48.0))
    payload = json.loads(messages.encode(messages.detections_body(frame_result((found,)))))
    assert payload["detections"] == [
        {"label": "cat", "score": 0.5124, "box": {"x": 0.50006, "y": 0.5, "w": 0.1, "h": 0.1}}
    ]


def test_topics_are_as_documented():
    topics = Topics("edge", "gate")
    assert topics.of("status") == "edge/gate/status"
    assert topics.camera("front", "events") == "edge/gate/front/events"
    assert topics.command("+") == "edge/gate/command/+"
    assert topics.response("pause") == "edge/gate/response/pause"
    assert Message("t", b"") == Message("t", b"", qos=0, retain=False)


@pytest.mark.parametrize("name", COMMANDS)
def test_empty_payload_means_all_defaults(name: str):
    assert decode_command(name, b"") == COMMANDS[name]() == decode_command(name, b"{}")


def test_commands_are_decoded():
    assert decode_command("pause", b'{"camera":"front","for_s":5,"transaction":"t"}') == Pause(
        camera="front", for_s=5.0, transaction="t"
    )
    assert decode_command("set_thresholds", b'{"labels":{"car":0.6}}') == SetThresholds(
        labels={"car": 0.6}
    )
    assert decode_command("reload", b"{}") == Reload()


WRONG = [
    ("pause", b"{", "truncated"),
    ("pause", b"[]", "array"),
    ("pause", b'"x"', "str"),
    ("pause", b"\xff\xfe", "command pause"),
    ("pause", b'{"for_s":-1}', "for_s"),
    ("pause", b'{"for_s":"5"}', "for_s"),
    ("pause", b'{"for_s":NaN}', "malformed"),
    ("pause", b'{"for_s":1e999}', "out of range"),
    ("pause", b'{"forever":true}', "`forever`; known: camera, for_s, transaction"),
    ("set_thresholds", b'{"camera":"front"}', "`camera`; known: min_score, labels, transaction"),
    ("set_thresholds", b'{"min_score":0}', "min_score"),
    ("set_thresholds", b'{"labels":{"car":1.5}}', "<= 1.0"),
    ("reload", b'{"transaction":"' + b"x" * 257 + b'"}', "256"),
    ("reload", b"[" * 16_000, "command reload"),
    ("reload", b'{"a\\nb' + b"x" * 9000 + b'":1}', "unknown field"),
    ("reboot", b"", "known: pause, resume"),
    ("a\nb" + "x" * 999, b"", "unknown command"),
]


@pytest.mark.parametrize(("name", "payload", "part"), WRONG)
def test_malformed_command_is_refused_with_one_short_line(name: str, payload: bytes, part: str):
    with pytest.raises(ValueError, match=part) as caught:
        decode_command(name, payload)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=300),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)
KEYS = st.sampled_from(["camera", "for_s", "transaction", "min_score", "labels"]) | st.text()


@given(
    st.sampled_from([*COMMANDS, "reboot"]) | st.text(max_size=60),
    st.binary(max_size=200)
    | st.dictionaries(KEYS, JSON, max_size=4).map(lambda data: json.dumps(data).encode()),
)
def test_any_bytes_are_a_command_or_one_short_line(name: str, payload: bytes):
    try:
        command = decode_command(name, payload)
        complaint = ""
    except ValueError as error:
        command, complaint = None, str(error)
    assert command is not None or complaint
    assert complaint.isprintable()
    assert len(complaint) < 300
    if command is not None:
        assert isinstance(command, COMMANDS[name])
