"""The kind of a camera's `source`, and its text without secrets."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path

from edge import lookup, picture_file
from edge.errors import InputError

HEIC_SUFFIXES = frozenset({".heic", ".heif"})  # which OpenCV cannot decode

_BETWEEN_ELEMENTS = re.compile(r"(\s!\s)")  # of a pipeline
# The name may be the end of a longer one: access_token, proxy-pw.
_SECRET_VALUE = re.compile(
    r"""(?ix) (?<![a-z0-9]) ( (?: user(?:name)? | (?:user|proxy)-id | login | usr
        | pass(?:word|wd|phrase)? | pwd | pw | token | auth | secret | (?:api)?key ) \s*=\s* )
        (?: "(?:\\.|[^"\\])*" | '(?:\\.|[^'\\])*' | (?:\\.|[^&\s])* )"""
)

_PIPELINE = re.compile(r"(^|\s)!\s|\s!")


class SourceKind(StrEnum):
    """How a source is read."""

    V4L2 = "v4l2"
    STREAM = "stream"
    GSTREAMER = "gstreamer"
    VIDEO = "video"
    IMAGES = "images"

    @property
    def is_live(self) -> bool:
        """Return whether the source is live: it has no end, and is reconnected when lost."""
        return self not in {SourceKind.VIDEO, SourceKind.IMAGES}


def kind_of(source: int | str) -> SourceKind:
    """Return how a source is read.

    Reads the disk only to distinguish a path from a pipeline, and a folder from a video.
    Raises InputError as `path_of` does.
    """
    text = str(source)
    if text.isdecimal() or text.startswith(("/dev/video", "/dev/v4l/")):
        return SourceKind.V4L2
    if _PIPELINE.search(text) and not _exists(text):
        return SourceKind.GSTREAMER
    if "://" in text and not text.startswith("file://"):
        return SourceKind.STREAM
    path = path_of(text)
    if lookup.is_folder(path) or path.suffix.lower() in picture_file.SUFFIXES:
        return SourceKind.IMAGES
    return SourceKind.VIDEO


def path_of(source: int | str) -> Path:
    """Return the path of a file source, without `file://` and with `~` expanded.

    Raises InputError for `~user` when that user does not exist.
    """
    return lookup.expanded(str(source).removeprefix("file://"), InputError)


def _exists(text: str) -> bool:
    path = path_of(text)
    return lookup.is_file(path) or lookup.is_folder(path)


def redact(source: int | str) -> str:
    """Return a source for logs and errors, with logins and secret parameters as `***`."""
    elements = _BETWEEN_ELEMENTS.split(str(source))
    return _SECRET_VALUE.sub(r"\1***", "".join(map(_without_login, elements)))


def _without_login(element: str) -> str:
    """Hide all up to the last @: a password may itself contain /, @ or a space."""
    scheme, mark, rest = element.partition("://")
    _, at, host = rest.rpartition("@")
    return f"{scheme}{mark}***@{host}" if at else element
