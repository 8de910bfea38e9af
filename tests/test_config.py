"""The config file: errors are one line that names key, line and fix."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import msgspec
import pytest

from edge import config, config_file
from edge.config import Config
from edge.errors import EXIT_CONFIG, ConfigError

SMALLEST = "cameras: {front: {source: 0}}\n"


def parse(text: str) -> Config:
    return config_file.parse(text, "edge.yaml")


def complaint(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 1500
    return message


def test_only_a_cameras_source_has_no_default():
    loaded = parse(SMALLEST)
    assert loaded.cameras["front"].source == 0
    assert loaded.budget.frame_ms == 200
    assert loaded == Config(cameras={"front": config.CameraConfig(source=0)})


def test_full_example_of_the_design_is_read():
    loaded = parse(
        """
device: gate
state_dir: /var/lib/edge
mqtt: {host: broker.local, port: 1883, protocol: auto, username: gate, password_file: /p}
budget: {frame_ms: 200}
cameras:
  front:
    source: rtsp://camera/1
    loop: false
    realtime: true
    zones: {door: [[0.1, 0.2], [0.4, 0.2], [0.4, 0.9]]}
    masks: []
motion: {enabled: true}
detector: {min_score: 0.5, labels: {car: {min_score: 0.6, min_height_px: 24}}}
spool: {max_bytes: 1000000}
"""
    )
    assert loaded.cameras["front"].zones["door"][2] == (0.4, 0.9)
    assert loaded.detector.labels["car"].min_score == 0.6


# Text after the smallest config -> what the message must hold.
WRONG = {
    "motoin: {}": ("edge.yaml:2: unknown key 'motoin'", "known here: device,", "motion"),
    "mqtt:\n  host: a\n  prot: 1": ("edge.yaml:4: unknown key 'mqtt.prot'", "host, port, protocol"),
    "mqtt: {port: 70000}": ("edge.yaml:2: mqtt.port", "<= 65535", "70000"),
    "mqtt: {port: '1883'}": ("mqtt.port", "`int`", "'1883'"),
    "mqtt: {protocol: 5}": ("mqtt.protocol", "'auto'", "'3.1.1'", "found 5"),
    "mqtt: {protocol: '4'}": ("mqtt.protocol", "'auto'"),
    'mqtt: {protocol: "a\\nb"}': ("mqtt.protocol",),
    "mqtt: {tls: 'yes'}": ("mqtt.tls", "`bool`"),
    "mqtt: {host: ''}": ("mqtt.host", "a name or address alone"),
    "mqtt: {host: 'mqtt://broker.local'}": ("edge.yaml:2: mqtt.host", "scheme"),
    "mqtt: {host: '127.0.0.1:1883'}": ("mqtt.host", "port"),
    "mqtt: {host: '[::1]'}": ("mqtt.host", "a name or address alone"),
    "web: {host: '0.0.0.0:8080'}": ("web.host", "port"),
    'metrics: {host: "a b"}': ("metrics.host", "a name or address alone"),
    'mqtt: {prefix: "edge\\n"}': ("mqtt.prefix", "letters, digits"),
    "mqtt: {prefix: edge/}": ("mqtt.prefix", "without / at its end", "'edge/'"),
    "mqtt: {discovery_prefix: a//b}": ("mqtt.discovery_prefix", "without //"),
    "mqtt: {key_file: k.pem}": ("mqtt.key_file", "cert_file"),
    "mqtt: {retry_min_s: 9, retry_max_s: 2}": ("mqtt", "retry_min_s is larger"),
    "budget: {frame_ms: .nan}": ("edge.yaml:2: budget.frame_ms", "finite"),
    "motion: {hold_s: .inf}": ("motion.hold_s", "finite"),
    "motion: {hold_s: 1.0e+999}": ("motion.hold_s", "finite"),
    "motion: {threshold: 0}": ("motion.threshold", ">= 1", "found 0"),
    "motion:": ("motion", "null"),
    "detector: {min_score: 1.5}": ("detector.min_score", "<= 1.0", "1.5"),
    "detector: {faster_model: yolox-nano-352}": ("faster_model is detector.model", "smaller"),
    "detector: {labels: {car: {min_scor: 1}}}": (
        "unknown key 'detector.labels.car.min_scor'",
        "min_score, min_width_px",
    ),
    "detector: {labels: {cat: {}, car: {min_score: 2}}}": ("detector.labels.car.min_score",),
    "device: a/b": ("edge.yaml:2: device", "letters, digits, _ and -", "'a/b'"),
    'device: "gate\\n"': ("device", "letters, digits"),
    "device: *x": ("edge.yaml:2", "aliases are refused"),
    "device: !!bool foo": ("edge.yaml:2", "tags"),
    "device: 2001-99-99": ("not valid YAML",),
    "device: gate\ndevice: door": ("edge.yaml:3: key 'device' stands twice",),
    'state_dir: "\\ud800"': ("edge.yaml:2", "make no text"),
    "? [a, b]\n: 1": ("edge.yaml:2: a key must be one word",),
    "1: {}": ("edge.yaml:2: 1", "`str`"),
    "device: on": ("edge.yaml:2: device", "put it in quotes; found True"),
    "device: 123": ("edge.yaml:2: device", "put it in quotes; found 123"),
    "device: 2024-01-01": ("edge.yaml:2: device", "put it in quotes"),
    "commands: {allow: [stop]}": ("commands.allow.0", "one of 'pause', 'reload'", "found 'stop'"),
    "device: 'gate": ("not valid YAML",),
    "device: \t gate: x": ("not valid YAML",),
    "budget: {frame_ms: " + "9" * 400 + "}": ("budget.frame_ms", "out of range"),
    "budget: {frame_ms: 1" + ":1" * 300 + ".5}": ("not valid YAML",),
    "spool: {max_bytes: " + "9" * 5000 + "}": ("not valid YAML",),
    "---\ncameras: {}": ("not valid YAML", "single document"),
}


@pytest.mark.parametrize("text", WRONG, ids=lambda text: text[:40])
def test_wrong_key_or_value_is_refused_with_line_key_and_fix(text: str):
    message = complaint(SMALLEST + text)
    for part in WRONG[text]:
        assert part in message


# A whole `cameras:` value -> what the message must hold.
WRONG_CAMERAS = {
    "{}": ("cameras", "length >= 1"),
    "[]": ("cameras", "`array`"),
    "{front: {}}": ("cameras.front", "source"),
    "{front: 0}": ("cameras.front",),
    "{front: {source: ''}}": ("cameras.front.source", "not empty"),
    "{front: {source: -1}}": ("cameras.front.source", ">= 0"),
    "{front: {source: true}}": ("cameras.front.source", "`bool`"),
    '{front: {source: "a\\0b"}}': ("cameras.front.source",),
    "{front: {source: 0, sorce: 1}}": ("unknown key 'cameras.front.sorce'", "source, loop"),
    "{a: {source: 0}, b: {source: 1, fsp: 3}}": ("unknown key 'cameras.b.fsp'",),
    "{front door: {source: 0}}": ("cameras.front door", "letters, digits"),
    "{a: {source: 0, zones: {1: [[0, 0], [1, 0], [1, 1]]}}}": ("zones.1", "put it in quotes"),
    "{stats: {source: 0}}": ("cameras.stats", "rename"),
    "{command: {source: 0}}": ("cameras.command", "rename"),
    "{a: {source: 0, retry_min_s: 9, retry_max_s: 1}}": ("cameras.a", "retry_min_s is larger"),
    "{a: {source: 0, fps: 1.0e-300}}": ("cameras.a", "fps is less than one a day; raise it"),
    "{a: {source: 0, fps: 1.0e+300}}": ("cameras.a.fps", "<= 1000"),
    "{a: {source: 0, zones: {z: [[0, 0], [1, 1]]}}}": ("cameras.a.zones.z", "length >= 3"),
    "{a: {source: 0, zones: {z: [[0, 0], [1, 1.5], [0, 1]]}}}": (
        "cameras.a.zones.z.1.1",
        "<= 1.0",
        "1.5",
    ),
    "{a: {source: 0, masks: [[[0, 0], [1, .nan], [0, 1]]]}}": ("cameras.a.masks.0.1.1", "finite"),
    "{a: {source: 0, rotate: 45}}": ("cameras.a.rotate", "one of 0, 90, 180, 270", "found 45"),
    "{a: {source: 0, pixel_format: mjpeg}}": ("cameras.a.pixel_format", "four characters", "MJPG"),
    "{a: {source: 0}, a: {source: 1}}": ("key 'a' stands twice",),
}


@pytest.mark.parametrize("text", WRONG_CAMERAS, ids=lambda text: text[:40])
def test_wrong_camera_is_refused_with_its_path(text: str):
    message = complaint(f"cameras: {text}")
    is_of_several = any(word in message for word in ("rename", "larger", "raise"))
    assert message.startswith("edge.yaml:1:") or is_of_several
    for part in WRONG_CAMERAS[text]:
        assert part in message


def test_line_is_that_of_the_key_at_fault():
    text = (
        "cameras:\n  a:\n    source: 0\n    zones:\n      z:\n        - [0, 0]\n        - [9, 0]\n"
    )
    assert complaint(text + "        - [1, 1]\n").startswith("edge.yaml:7: cameras.a.zones.z.1.0:")


def test_error_message_never_contains_a_login():
    message = complaint("cameras: {a: {source: [rtsp://user:secret@host/]}}")
    assert "secret" not in message
    assert "secret" not in complaint(f"{SMALLEST}mqtt: {{host: 'mqtt://user:secret@host'}}")


@pytest.mark.parametrize("host", ["broker.local", "192.168.1.5", "::1", "fe80::1%eth0", "bröker"])
def test_a_host_is_a_name_or_an_address(host: str):
    assert parse(f"{SMALLEST}mqtt: {{host: '{host}'}}").mqtt.host == host


@pytest.mark.parametrize("prefix", ["edge", "/edge", "site-1/barn/edge", "a" * 128])
def test_a_prefix_has_one_or_more_levels(prefix: str):
    assert parse(f"{SMALLEST}mqtt: {{prefix: {prefix}}}").mqtt.prefix == prefix


@pytest.mark.parametrize("text", ["", "# only a comment\n", "- a\n- b\n", "word", "null"])
def test_error_for_a_file_that_is_not_a_map_names_the_required_key(text: str):
    assert "give at least cameras.<name>.source" in complaint(text)


@pytest.mark.parametrize("text", ["[" * 9000, "{a: " * 9000, "- " * 9000, "a: " + "[" * 9000])
def test_deep_nesting_is_refused(text: str):
    assert complaint(text).startswith("edge.yaml:1: nested deeper")


def test_unreadable_files_are_named(tmp_path: Path):
    missing, binary, huge = tmp_path / "none.yaml", tmp_path / "binary", tmp_path / "huge.yaml"
    binary.write_bytes(b"\xff\xfe\x00device")
    huge.write_text("#" * config_file.MAX_BYTES + "é", "utf-8")  # the limit divides the é
    expected = {
        missing: "No such file",
        binary: "not UTF-8",
        huge: "larger than",
        tmp_path: "Is a directory",
        Path("/dev/zero"): "larger than",
    }
    for path, part in expected.items():
        with pytest.raises(ConfigError, match=part) as caught:
            config_file.load(path)
        assert str(path) in str(caught.value)
        assert caught.value.exit_code == EXIT_CONFIG


def test_device_name_is_the_host_name_sanitized_for_topics(monkeypatch: pytest.MonkeyPatch):
    loaded = parse(SMALLEST)
    monkeypatch.setattr(socket, "gethostname", lambda: "my board+#.local")
    assert config_file.device_name(loaded) == "my-board--"
    monkeypatch.setattr(socket, "gethostname", lambda: "")
    assert config_file.device_name(loaded) == "edge"
    assert config_file.device_name(parse(SMALLEST + "device: gate")) == "gate"


def test_state_dir_is_the_configured_then_systemds_then_the_users(monkeypatch: pytest.MonkeyPatch):
    loaded = parse(SMALLEST)
    monkeypatch.setenv("XDG_STATE_HOME", "/home/u/state")
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    assert config_file.state_dir(loaded) == Path("/home/u/state/edge")
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/edge:/var/lib/more")
    assert config_file.state_dir(loaded) == Path("/var/lib/edge")
    assert config_file.state_dir(parse(SMALLEST + "state_dir: /s")) == Path("/s")


@pytest.mark.parametrize(
    ("config", "name", "found"),
    [
        ("etc/edge.yaml", "edge", "edge"),
        ("etc/door.yaml", "edge-door", "edge-door"),
        ("etc/door.yaml", "edge", None),  # not the state of another daemon
        ("home/edge.yaml", "edge", None),
    ],
)
def test_state_dir_of_a_service_is_found_from_its_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: str, name: str, found: str | None
):
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setattr(config_file.daemon, "SERVICE_CONFIGS", tmp_path / "etc")
    monkeypatch.setattr(config_file.daemon, "SERVICE_STATES", tmp_path)
    (tmp_path / name).symlink_to(tmp_path / "private")  # which this user may not read
    path = tmp_path / config
    path.parent.mkdir()
    path.write_text("cameras: {front: {source: 0}}\n")
    loaded = config_file.load_of_service(path)
    assert loaded.state_dir == (None if found is None else str(tmp_path / found))
    path.write_text("state_dir: /elsewhere\ncameras: {front: {source: 0}}\n")
    assert config_file.load_of_service(path).state_dir == "/elsewhere"
    path.write_text("cameras: {front: {source: 0}}\n")
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/more")
    assert config_file.load_of_service(path).state_dir is None


def test_json_schema_knows_every_key_and_refuses_others():
    schema = json.loads(json.dumps(config_file.json_schema()))
    for name, kind in schema["$defs"].items():
        assert kind["additionalProperties"] is False, name
    keys = set(schema["$defs"]["CameraConfig"]["properties"])
    assert keys == {field.name for field in msgspec.structs.fields(config.CameraConfig)}


def test_unset_environment_is_not_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    for name in ("STATE_DIRECTORY", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert config_file.state_dir(parse(SMALLEST)) == tmp_path / ".local" / "state" / "edge"
    assert not list(tmp_path.iterdir())  # loading creates nothing
    monkeypatch.setenv("XDG_STATE_HOME", "")
    assert config_file.state_dir(parse(SMALLEST)) == tmp_path / ".local" / "state" / "edge"


def test_camera_may_have_many_zones():
    zones = {f"z{number}": [[0, 0], [1, 0], [1, 1]] for number in range(30)}
    text = json.dumps({"cameras": {"front": {"source": 0, "zones": zones}}})
    assert len(parse(text).cameras["front"].zones) == 30


def test_long_wrong_value_is_cut_in_the_complaint():
    assert len(complaint(f"{SMALLEST}mqtt: {{protocol: {'x' * 5000}}}")) < 200


@pytest.mark.parametrize(
    ("web", "metrics", "is_refused"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("0.0.0.0", "127.0.0.1", True),
        ("192.168.1.5", "127.0.0.1", False),
    ],
)
def test_page_and_metrics_cannot_share_an_address(web: str, metrics: str, is_refused: bool):
    text = (
        f"{SMALLEST}web: {{enabled: true, host: {web}, port: 9100}}\n"
        f"metrics: {{host: {metrics}, port: 9100}}\n"
    )
    if is_refused:
        assert "web.port and metrics.port are one" in complaint(text)
    else:
        assert parse(text).metrics.port == 9100


def test_unknown_key_of_a_cameras_own_motion_names_the_known_ones():
    fault = complaint("cameras: {front: {source: 0, motion: {enable: false}}}")
    assert "unknown key 'cameras.front.motion.enable'; known here: enabled, threshold" in fault


def test_camera_is_read_like_one_with_other_zones_but_not_like_one_with_another_source():
    own = "zones: {a: [[0, 0], [1, 0], [1, 1]]}, masks: [[[0, 0], [1, 0], [1, 1]]]"
    plain, drawn, other = (
        parse(f"cameras: {{front: {{{keys}}}}}").cameras["front"]
        for keys in (
            "source: 0",
            f"source: 0, labels: [car], motion: {{enabled: false}}, {own}",
            "source: 0, fps: 5",
        )
    )
    assert plain.is_read_like(drawn)
    assert not plain.is_read_like(other)
