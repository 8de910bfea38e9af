"""YOLO text files: one line per object, `class x y width height`, as shares of the picture.

x and y are the box's center. Lines with more numbers are outlines, of which the bounding box is
taken; where the YAML file has `kpt_shape`, they are boxes with key points, which are ignored. Class
names come from a YAML file (`names:`, a list or by number), `classes.txt` or Darknet's `obj.names`.
`labels/…/a.txt` belongs to `images/…/a.jpg`, or the text file lies beside its picture. A picture
without a text file is left out; one with an empty text file has no objects.
"""

from __future__ import annotations

from pathlib import Path

import yaml

from edge.errors import InputError
from tools.data.entry import Entry, Labelled, Listing, number, pictures_below

LISTS = ("classes.txt", "obj.names")  # files of class names, one per line


def read(source: Path, images: Path | None) -> Listing:
    """Return the pictures below a folder that have a label file.

    images: read only pictures below this folder. Raises InputError without a file of class names.
    """
    root = images or source
    names, has_points = _names(source)
    listing = Listing(classes=list(dict.fromkeys(names.values())))
    for path in pictures_below(root):
        labels = _label_file(path)
        if labels is None:
            listing.problems.append(
                f"{path}: no label file; left out (an empty one says that nothing is in it)"
            )
            continue
        objects = _objects(labels, names, listing.problems, has_points=has_points)
        name = path.relative_to(root).as_posix().removeprefix("images/")
        listing.entries.append(Entry(path, name, objects, source=source.name))
    return listing


def _names(source: Path) -> tuple[dict[int, str], bool]:
    """Return class names by number, and whether key points follow each box.

    Names are in ascending order of their numbers, which may have gaps. In classes.txt, a line's
    number counts from 0. Raises InputError when there are no names.
    """
    listed = next((source / name for name in LISTS if (source / name).is_file()), None)
    if listed:
        lines = _text(listed).splitlines()
        named = {place: line.strip() for place, line in enumerate(lines) if line.strip()}
        if not named:
            raise InputError(f"{listed}: no class in it; write one per line")
        return named, False
    for path in sorted([*source.glob("[!.]*.yaml"), *source.glob("[!.]*.yml")]):
        keys = _keys(path)
        names = keys.get("names")
        if isinstance(names, yaml.CollectionNode) and names.value:
            return _numbered(names, path), "kpt_shape" in keys
    if source.is_file():
        raise InputError(f"{source}: a file; name the folder that holds it")
    if not source.is_dir():
        raise InputError(f"{source}: no such folder")
    raise InputError(f"{source}: no classes.txt and no YAML file with names: in it; add one")


def _keys(path: Path) -> dict[str, yaml.Node]:
    """Return the values of a YAML file's keys as they are written: `no` is a name, not false.

    Raises InputError when the file is not YAML.
    """
    try:
        root = yaml.compose(_text(path), Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        raise InputError(f"{path}: not YAML; repair it") from None
    pairs = root.value if isinstance(root, yaml.MappingNode) else ()
    return {key.value: value for key, value in pairs if isinstance(key, yaml.ScalarNode)}


def _numbered(names: yaml.CollectionNode, path: Path) -> dict[int, str]:
    """Return names by number.

    Raises InputError for a key that is not a number or occurs twice, and for a name that is empty
    or not a text.
    """
    pairs = names.value
    if isinstance(names, yaml.SequenceNode):
        pairs = [(yaml.ScalarNode("", str(place)), node) for place, node in enumerate(pairs)]
    found: dict[int, str] = {}
    for key, node in pairs:
        text = str(key.value).strip()
        if not text.isdecimal():
            raise InputError(
                f"{path}: names: {text!r} is not a whole number of at least 0; number it"
            )
        if int(text) in found:
            raise InputError(f"{path}: names: {text} occurs twice; renumber the classes")
        name = node.value.strip() if isinstance(node, yaml.ScalarNode) else ""
        if not name:
            raise InputError(f"{path}: names: class {text} has no name; write one")
        found[int(text)] = name
    return dict(sorted(found.items()))


def _text(path: Path) -> str:
    """Return a file's text; InputError when it is not UTF-8 or cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8; save it as UTF-8") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None


def _label_file(path: Path) -> Path | None:
    """Return a picture's label file: in `labels` instead of `images`, or beside the picture."""
    candidates = [path.with_suffix(".txt")]
    parts = list(path.parts)
    if "images" in parts:
        last = len(parts) - 1 - parts[::-1].index("images")
        parts[last] = "labels"
        candidates.insert(0, Path(*parts).with_suffix(".txt"))
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _objects(
    file: Path, names: dict[int, str], problems: list[str], *, has_points: bool
) -> tuple[Labelled, ...]:
    """Return a file's objects; has_points: key points follow each box."""
    found = []
    text = file.read_text(encoding="utf-8-sig", errors="replace")
    for count, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            fields = line.split()
            found.append(_labelled(fields[:5] if has_points else fields, names))
        except ValueError as error:
            problems.append(f"{file}:{count}: {error}")
    return tuple(found)


def _labelled(fields: list[str], names: dict[int, str]) -> Labelled:
    if len(fields) < 5 or (len(fields) > 5 and len(fields) % 2 == 0):
        raise ValueError(f"{len(fields)} fields; expected class x y width height")
    if not fields[0].isdecimal() or int(fields[0]) not in names:
        last = max(names)
        raise ValueError(f"class {fields[0]!r}; there are {len(names)} classes from 0 to {last}")
    values = [number(value) for value in fields[1:]]
    if len(values) > 4:
        xs, ys = values[::2], values[1::2]
        box = (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys))
    else:
        x, y, width, height = values
        box = (x - width / 2, y - height / 2, width, height)
    return Labelled(names[int(fields[0])], box, is_relative=True)
