"""Decoded messages of a daemon named gate, and commands to it with their answers."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from edge.messages import Event, Response, Stats
from mosquitto import Received, Subscriber

EVENTS = "edge/gate/front/events"
STATS = "edge/gate/stats"


def events_of(received: list[Received]) -> list[Event]:
    """Strictly decoded events, in the order of their delivery."""
    return [msgspec.json.decode(one.payload, type=Event) for one in received if one.topic == EVENTS]


def stats_of(received: list[Received]) -> list[Stats]:
    return [msgspec.json.decode(one.payload, type=Stats) for one in received if one.topic == STATS]


def ask(subscriber: Subscriber, name: str, payload: Any) -> Response:
    """Send a command and return its answer; a dict payload is encoded."""
    topic = f"edge/gate/response/{name}"
    before = sum(one.topic == topic for one in subscriber.received)
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    subscriber.publish(f"edge/gate/command/{name}", body)
    answers = subscriber.wait_for_topic(topic, before + 1)
    return msgspec.json.decode(answers[-1].payload, type=Response)
