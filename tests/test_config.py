"""The config file: errors are one line that names key, line and fix."""

from __future__ import annotations

import json
import operator
import socket
import types
import typing
from pathlib import Path

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

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
    huge.write_bytes(b"#" * (config_file.MAX_BYTES + 1))
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
    monkeypatch.setattr(config_file, "SERVICE_CONFIGS", tmp_path / "etc")
    monkeypatch.setattr(config_file, "SERVICE_STATES", tmp_path)
    (tmp_path / name).symlink_to(tmp_path / "private")  # which this user may not read
    path = tmp_path / config
    path.parent.mkdir()
    path.write_text("cameras: {front: {source: 0}}\n")
    loaded = config_file.load_of_service(path)
    assert loaded.state_dir == (None if found is None else str(tmp_path / found))
    path.write_text("state_dir: /elsewhere\ncameras: {front: {source: 0}}\n")
    assert config_file.load_of_service(path).state_dir == "/elsewhere"


def test_json_schema_knows_every_key_and_refuses_others():
    schema = json.loads(json.dumps(config_file.json_schema()))
    for name, kind in schema["$defs"].items():
        assert kind["additionalProperties"] is False, name
    keys = set(schema["$defs"]["CameraConfig"]["properties"])
    assert keys == {field.name for field in msgspec.structs.fields(config.CameraConfig)}


NAMES = st.from_regex(r"[A-Za-z0-9_-]{1,20}", fullmatch=True)
# Characters that YAML allows in a double-quoted scalar and no pattern refuses.
TEXTS = st.text(
    st.characters(exclude_categories=("Cs", "Cc", "Cn"), exclude_characters="\ufeff"),
    min_size=1,
    max_size=20,
)


def _values(kind: typing.Any) -> st.SearchStrategy[typing.Any]:
    """Return a strategy for a field's type, its limits included."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    made: dict[typing.Any, typing.Callable[[], st.SearchStrategy[typing.Any]]] = {
        typing.Annotated: lambda: _limited(args[0], kind.__metadata__[0]),
        typing.Union: lambda: st.one_of([_values(arg) for arg in args]),
        types.UnionType: lambda: st.one_of([_values(arg) for arg in args]),
        typing.Literal: lambda: st.sampled_from(args),
        dict: lambda: st.dictionaries(_values(args[0]), _values(args[1]), max_size=2),
        tuple: lambda: _tuples(args, 0),
        bool: st.booleans,
        str: lambda: TEXTS,
        type(None): st.none,
    }
    key = origin or kind
    return made[key]() if key in made else _structs(kind)


def _limited(kind: typing.Any, meta: msgspec.Meta) -> st.SearchStrategy[typing.Any]:
    """Return a strategy for an annotated type."""
    if meta.pattern is not None:
        return TEXTS if meta.pattern == config.TEXT_PATTERN else NAMES
    if kind not in (int, float):
        return _tuples(typing.get_args(kind), meta.min_length or 0)
    low, high = (meta.gt if meta.ge is None else meta.ge), (1e9 if meta.le is None else meta.le)
    if kind is int:
        return st.integers(low, high)
    return st.floats(low, high, exclude_min=meta.ge is None)


def _tuples(args: tuple[typing.Any, ...], min_size: int) -> st.SearchStrategy[typing.Any]:
    if args[-1] is Ellipsis:
        return st.lists(_values(args[0]), min_size=min_size, max_size=min_size + 2).map(tuple)
    return st.tuples(*[_values(arg) for arg in args])


def _structs(kind: type) -> st.SearchStrategy[typing.Any]:
    hints = typing.get_type_hints(kind, include_extras=True)
    fields = {name: _values(hint) for name, hint in hints.items() if name != "cameras"}
    if kind is Config:
        cameras = st.dictionaries(NAMES, _structs(config.CameraConfig), min_size=1, max_size=2)
        fields["cameras"] = cameras
    required = {field.name for field in msgspec.structs.fields(kind) if field.required}
    optional = {name: value for name, value in fields.items() if name not in required}
    return st.fixed_dictionaries({name: fields[name] for name in required}, optional=optional).map(
        lambda chosen: kind(**chosen)
    )


def _has_homes(made: Config) -> bool:
    """Return whether a file or folder begins with `~`, which reading replaces."""
    places = [operator.attrgetter(place)(made) for place in config_file.PLACES]
    return any(place is not None and place.startswith("~") for place in places)


def _is_consistent(made: Config) -> bool:
    pairs = [made.mqtt, *made.cameras.values()]
    return (
        all(pair.retry_min_s <= pair.retry_max_s for pair in pairs)
        and (made.mqtt.key_file is None or made.mqtt.cert_file is not None)
        and all(camera.fps == 0 or camera.fps > 0.001 for camera in made.cameras.values())
        and not config_file.RESERVED_NAMES & made.cameras.keys()
        and not _has_homes(made)
    )


@settings(max_examples=40)
@given(_structs(Config).filter(_is_consistent))
def test_any_config_written_as_yaml_is_read_back_equal(made: Config):
    text = yaml.dump(msgspec.to_builtins(made), Dumper=NoAliases, allow_unicode=True)
    assert parse(text) == made


class NoAliases(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True


KEYS = st.sampled_from(
    ["cameras", "front", "source", "mqtt", "port", "zones", "labels", "detector", "motion", "a b"]
)
YAML_DATA = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(max_size=5), inner, max_size=5)
    ),
    max_leaves=12,
)


def _is_read_or_refused_in_one_line(text: str) -> None:
    try:
        parse(text)
        message = "edge.yaml: ok"
    except ConfigError as error:
        message = str(error)
    assert message.isprintable()
    assert len(message) < 1500
    assert message.startswith("edge.yaml")


@given(st.dictionaries(KEYS | st.integers() | st.text(max_size=5), YAML_DATA, max_size=5))
def test_any_data_in_yaml_is_read_or_refused_in_one_line(data: dict[object, object]):
    _is_read_or_refused_in_one_line(yaml.safe_dump(data))


@given(st.text(alphabet=st.sampled_from("ab:{}[],-?!&*|>'\"%@`#0.~= \n\t<é\x00"), max_size=60))
def test_any_text_is_read_or_refused_in_one_line(text: str):
    _is_read_or_refused_in_one_line(text)
    _is_read_or_refused_in_one_line(f"cameras: {{front: {{source: 0}}}}\ndetector: {text}")


def test_unset_environment_is_not_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    for name in ("STATE_DIRECTORY", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert config_file.state_dir(parse(SMALLEST)) == tmp_path / ".local" / "state" / "edge"
    assert not list(tmp_path.iterdir())  # loading creates nothing


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
