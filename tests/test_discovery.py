"""Home Assistant discovery: one message whose topics and templates fit what edge publishes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jinja2
import msgspec

from edge.discovery import components_of, discovery_message, discovery_topic
from edge.messages import (
    COMMANDS,
    CameraState,
    Event,
    Message,
    Pause,
    Resume,
    Stats,
    Status,
    Topics,
    decode_command,
)

# The keys that Home Assistant's schemas accept, recorded by tests/homeassistant.sh.
REFERENCE = Path(__file__).parent / "reference" / "homeassistant.json"
TOPICS = Topics("edge", "gate")
LABELS = ["person", "car"]
CAMERAS = {"front": LABELS, "back": LABELS}


def message(topics: Topics, cameras: dict[str, list[str]]) -> Message:
    components = components_of(topics, cameras, COMMANDS)
    return discovery_message("homeassistant", topics, "1.2.3", components, {})


MESSAGE = message(TOPICS, CAMERAS)
PAYLOAD = json.loads(MESSAGE.payload)
COMPONENTS = PAYLOAD["components"]
# What is published on a component's state topic.
SCHEMAS = {"stats": Stats, "state": CameraState, "events": Event, "status": Status}


def test_message_is_retained_at_the_devices_topic():
    assert MESSAGE.topic == "homeassistant/device/gate/config"
    assert discovery_topic("ha", "gate") == "ha/device/gate/config"
    assert MESSAGE.retain
    assert MESSAGE.qos == 1


def test_device_and_origin_are_named():
    assert PAYLOAD["device"]["identifiers"] == ["edge_gate"]
    assert PAYLOAD["device"]["sw_version"] == "1.2.3"
    assert PAYLOAD["origin"]["name"]


def test_availability_follows_birth_and_will():
    (availability,) = PAYLOAD["availability"]
    assert availability["topic"] == TOPICS.of("status")
    states = msgspec.inspect.type_info(Status).fields
    (status,) = [field.type.values for field in states if field.name == "status"]
    # Home Assistant's defaults for payload_available and payload_not_available.
    assert set(status) == {"online", "offline"}


def test_devices_whose_names_begin_alike_share_no_id():
    def ids(device: str, *cameras: str) -> set[str]:
        sent = message(Topics("edge", device), dict.fromkeys(cameras, LABELS))
        return {one["unique_id"] for one in json.loads(sent.payload)["components"].values()}

    assert not ids("gate", "door", "yard") & ids("gate_door", "yard", "wall")


def test_unique_ids_are_unique_and_every_component_has_a_platform():
    ids = [entity["unique_id"] for entity in COMPONENTS.values()]
    assert len(set(ids)) == len(ids)
    assert all(entity["platform"] for entity in COMPONENTS.values())
    assert all(entity["name"] for entity in COMPONENTS.values())


def test_home_assistant_schemas_accept_every_key_and_miss_none():
    platforms = json.loads(REFERENCE.read_text())["platforms"]
    shared = {"availability", "qos", "device"}
    for name, entity in COMPONENTS.items():
        known = platforms[entity["platform"]]
        keys = set(entity) - {"platform"} | shared
        assert keys <= set(known["keys"]), name
        assert set(known["required"]) <= keys, name


def test_readings_have_names_and_units():
    read = [one for one in COMPONENTS.values() if one.get("state_topic") == TOPICS.of("stats")]
    shown = {one["name"]: one["unit_of_measurement"] for one in read}
    assert shown == {"Frame rate": "fps", "Latency p95": "ms", "Temperature": "°C"}


def test_only_snapshots_of_people_are_enabled_by_default():
    images = {key: one for key, one in COMPONENTS.items() if one["platform"] == "image"}
    switched_on = {key for key, one in images.items() if one["enabled_by_default"]}
    assert switched_on == {"front_person_snapshot", "back_person_snapshot"}
    assert len(images) == 4


def test_every_camera_has_objects_state_and_a_snapshot_per_label():
    for camera in ("front", "back"):
        assert COMPONENTS[f"{camera}_objects"]["state_topic"] == TOPICS.camera(camera, "events")
        assert COMPONENTS[f"{camera}_objects"]["event_types"] == ["new", "update", "end"]
        assert COMPONENTS[f"{camera}_car_snapshot"]["image_topic"] == TOPICS.camera(
            camera, "snapshot/car"
        )


def test_templates_read_fields_that_are_published():
    for key, entity in COMPONENTS.items():
        template = entity.get("value_template", "")
        for path in re.findall(r"value_json\.([a-z_]+)", template):
            schema = SCHEMAS[entity["state_topic"].rpartition("/")[2]]
            assert path in schema.__struct_fields__, (key, path)


def test_latency_is_unknown_before_the_first_frame_and_a_number_after_it():
    strict = jinja2.Environment(undefined=jinja2.StrictUndefined)  # as its log complains
    template = strict.from_string(COMPONENTS["latency"]["value_template"])
    assert template.render(value_json={"latency_ms": {}}) == "None"
    assert template.render(value_json={"latency_ms": {"p95": 31.5}}) == "31.5"


def test_buttons_press_commands_that_exist_on_all_cameras_or_one():
    buttons = {key: one for key, one in COMPONENTS.items() if one["platform"] == "button"}
    pressed = {}
    for key, button in buttons.items():
        name = button["command_topic"].removeprefix(TOPICS.command(""))
        pressed[key] = decode_command(name, button["payload_press"].encode())
    assert pressed == {
        "pause": Pause(), "resume": Resume(),
        "front_pause": Pause(camera="front"), "front_resume": Resume(camera="front"),
        "back_pause": Pause(camera="back"), "back_resume": Resume(camera="back"),
    }  # fmt: skip


def test_an_only_camera_has_no_buttons_of_its_own():
    found = components_of(TOPICS, {"front": LABELS}, COMMANDS)
    assert {key for key, one in found.items() if one["platform"] == "button"} == {
        "pause",
        "resume",
    }


def test_commands_that_are_not_allowed_have_no_button():
    found = components_of(TOPICS, CAMERAS, ["resume"])
    assert "resume" in found
    assert "pause" not in found


def test_removed_components_have_only_their_platform():
    components = components_of(TOPICS, {"front": ["person"]}, COMMANDS)
    gone = {"old_objects": "event", "old_person_snapshot": "image"}
    message = discovery_message("homeassistant", TOPICS, "1", components, gone)
    found = json.loads(message.payload)["components"]
    assert {name: found.pop(name) for name in gone} == {
        "old_objects": {"platform": "event"},
        "old_person_snapshot": {"platform": "image"},
    }
    assert set(found) == set(components)
