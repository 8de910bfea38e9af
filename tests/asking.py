"""Decoded messages of a daemon named gate, and commands to it with their answers."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from edge.messages import CameraState, Event, Response, Stats
from mosquitto import Received, Subscriber

EVENTS = "edge/gate/front/events"
STATS = "edge/gate/stats"
STATUS = "edge/gate/status"
STATE = "edge/gate/front/state"


def events_of(received: list[Received]) -> list[Event]:
    """Strictly decoded events, in the order of their delivery."""
    return [msgspec.json.decode(one.payload, type=Event) for one in received if one.topic == EVENTS]


def open_ids(received: list[Received]) -> set[str]:
    """The objects of which no `end` has come."""
    events = events_of(received)
    return {event.id for event in events} - {event.id for event in events if event.kind == "end"}


def stats_of(received: list[Received]) -> list[Stats]:
    return [msgspec.json.decode(one.payload, type=Stats) for one in received if one.topic == STATS]


def states_of(received: list[Received]) -> list[CameraState]:
    mine = [one.payload for one in received if one.topic == STATE]
    return [msgspec.json.decode(payload, type=CameraState) for payload in mine]


def is_offline(received: list[Received]) -> bool:
    """Whether the newest status says so."""
    statuses = [one.payload for one in received if one.topic == STATUS]
    return bool(statuses) and b"offline" in statuses[-1]


def ask(subscriber: Subscriber, name: str, payload: Any) -> Response:
    """Send a command and return its answer; a dict payload is encoded."""
    topic = f"edge/gate/response/{name}"
    before = sum(one.topic == topic for one in subscriber.received)
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    subscriber.publish(f"edge/gate/command/{name}", body)
    answers = subscriber.wait_for_topic(topic, before + 1)
    return msgspec.json.decode(answers[-1].payload, type=Response)
