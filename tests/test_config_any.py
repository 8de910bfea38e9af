"""Any config: written and read back equal, or refused in one line."""

from __future__ import annotations

import operator
import types
import typing

import msgspec
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from edge import config, config_file
from edge.config import Config
from edge.errors import ConfigError

NAMES = st.from_regex(r"[A-Za-z0-9_-]{1,20}", fullmatch=True)
# Characters that YAML allows in a double-quoted scalar and no pattern refuses.
TEXTS = st.text(
    st.characters(exclude_categories=("Cs", "Cc", "Cn"), exclude_characters="\ufeff"),
    min_size=1,
    max_size=20,
)
OF_PATTERN = {
    config.TEXT_PATTERN: TEXTS,
    config.PIXEL_FORMAT_PATTERN: st.sampled_from(["", "MJPG", "YUYV"]),
}


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
        return OF_PATTERN.get(meta.pattern, NAMES)
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
    assert config_file.parse(text, "edge.yaml") == made


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
        config_file.parse(text, "edge.yaml")
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
