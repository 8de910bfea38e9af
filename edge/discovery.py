"""Home Assistant's device discovery: one retained message that describes the whole board.

Source: Home Assistant documentation, "MQTT / Device discovery payload" (since 2024.11):
`<discovery_prefix>/device/<object_id>/config` with `device`, `origin`, `components`. A component
that has nothing but its platform is removed there.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

import msgspec

from edge.messages import Message, Topics

Component = dict[str, Any]  # of a discovery message
_EVENT_TEMPLATE = "{{ dict(value_json, event_type=value_json.kind) | tojson }}"
# Snapshots of other labels are disabled until the user enables them.
SNAPSHOT_DEFAULT_LABELS = frozenset({"person"})
BUTTON_ICONS = {"pause": "mdi:pause", "resume": "mdi:play"}


def discovery_topic(prefix: str, device: str) -> str:
    """Return the topic of a device's discovery message."""
    return f"{prefix}/device/{device}/config"


def discovery_message(
    prefix: str,
    topics: Topics,
    version: str,
    components: Mapping[str, Component],
    gone: Mapping[str, str],
) -> Message:
    """Return the retained message from which Home Assistant creates the device and its entities.

    prefix: Home Assistant's discovery prefix. components: see `components_of`.
    gone: platforms of former components, by name: Home Assistant removes them.
    """
    # Ids have dots, which names have not: camera "door" of "gate" shares none with "gate_door".
    payload = {
        "device": {
            "identifiers": [f"edge_{topics.device}"],
            "name": topics.device,
            "manufacturer": "edge",
            "model": "edge-camera",
            "sw_version": version,
        },
        "origin": {"name": "edge-camera", "sw_version": version},
        "availability": [
            {"topic": topics.of("status"), "value_template": "{{ value_json.status }}"}
        ],
        "qos": 1,
        "components": {key: {"platform": platform} for key, platform in gone.items()}
        | {
            key: {**entity, "unique_id": f"edge.{topics.device}.{key}"}
            for key, entity in components.items()
        },
    }
    topic = discovery_topic(prefix, topics.device)
    return Message(topic, msgspec.json.encode(payload), qos=1, retain=True)


def components_of(
    topics: Topics, cameras: Mapping[str, Sequence[str]], commands: Container[str]
) -> dict[str, Component]:
    """Return the parts of the device, by name; each becomes an entity.

    cameras: by name, the classes of which there may be snapshots.
    commands: the commands that Home Assistant may send; others get no button.
    """
    components = _readings(topics)
    allowed = [command for command in BUTTON_ICONS if command in commands]
    components |= {command: _button(topics, command) for command in allowed}
    for camera, labels in cameras.items():
        components |= _camera_components(topics, camera, labels)
        if len(cameras) > 1:
            components |= {
                f"{camera}_{command}": _button(topics, command, camera) for command in allowed
            }
    return components


def _readings(topics: Topics) -> dict[str, Component]:
    def stat(name: str, template: str, unit: str, **more: str) -> dict[str, Any]:
        return {
            "platform": "sensor",
            "name": name,
            "state_topic": topics.of("stats"),
            "value_template": template,
            "unit_of_measurement": unit,
            "state_class": "measurement",
            "entity_category": "diagnostic",
            **more,
        }

    return {
        "fps": stat("Frame rate", "{{ value_json.frames_per_s }}", "fps"),
        "latency": stat(
            "Latency p95",
            "{{ value_json.latency_ms.p95 | default(none) }}",  # none before the first frame
            "ms",
            device_class="duration",
        ),
        "temperature": stat(
            "Temperature", "{{ value_json.temperature_c }}", "°C", device_class="temperature"
        ),
    }


def _button(topics: Topics, command: str, camera: str | None = None) -> Component:
    """Return the button that sends a command to one camera, or to all."""
    return {
        "platform": "button",
        "name": f"{camera} {command}" if camera else command.capitalize(),
        "command_topic": topics.command(command),
        "payload_press": f'{{"camera": "{camera}"}}' if camera else "{}",
        "icon": BUTTON_ICONS[command],
    }


def _camera_components(topics: Topics, camera: str, labels: Sequence[str]) -> dict[str, Component]:
    components: dict[str, Component] = {
        f"{camera}_objects": {
            "platform": "event",
            "name": f"{camera} objects",
            "state_topic": topics.camera(camera, "events"),
            "event_types": ["new", "update", "end"],
            "value_template": _EVENT_TEMPLATE,
        },
        f"{camera}_state": {
            "platform": "sensor",
            "name": f"{camera} state",
            "state_topic": topics.camera(camera, "state"),
            "value_template": "{{ value_json.state }}",
            "device_class": "enum",
            "options": ["opening", "live", "lost", "ended"],
            "entity_category": "diagnostic",
        },
        f"{camera}_detection": {
            "platform": "sensor",
            "name": f"{camera} detection",
            "state_topic": topics.camera(camera, "state"),
            "value_template": "{{ 'paused' if value_json.paused else 'on' }}",
            "device_class": "enum",
            "options": ["on", "paused"],
        },
    }
    for label in labels:
        components[f"{camera}_{label}_snapshot"] = {
            "platform": "image",
            "name": f"{camera} {label}",
            "image_topic": topics.camera(camera, f"snapshot/{label}"),
            "content_type": "image/jpeg",
            "enabled_by_default": label in SNAPSHOT_DEFAULT_LABELS,
        }
    return components
