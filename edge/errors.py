"""Exceptions of the daemon; a class exists only where the caller acts differently.

Exit codes (documented in README.md): 0 success, 1 unexpected failure, 2 wrong usage,
3 something is wrong on the board (`edge status`, `edge doctor`), 66 unreadable input,
69 service unavailable, 78 wrong config or model.
"""

from __future__ import annotations

import errno

EXIT_OK = 0
EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_UNHEALTHY = 3
EXIT_NO_INPUT = 66  # EX_NOINPUT of sysexits.h
EXIT_UNAVAILABLE = 69  # EX_UNAVAILABLE
EXIT_CONFIG = 78  # EX_CONFIG

# Of an OSError: the disk, the user's share of it, or the largest file allowed is full.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def one_line(text: object) -> str:
    """Return a message, which may name files with odd characters, as one line."""
    return "".join(char if char.isprintable() else " " for char in str(text)).strip()


def brief(text: object, limit: int = 200) -> str:
    """Return another program's message as one line, blanks single, cut after `limit` characters."""
    return " ".join(one_line(text).split())[:limit]


class EdgeError(Exception):
    """A failure with a one-line message that names the thing and the fix."""

    exit_code = EXIT_FAILURE


class ConfigError(EdgeError):
    """The config file is wrong; restarting cannot help."""

    exit_code = EXIT_CONFIG


class ModelError(EdgeError):
    """A model folder is missing, damaged, or not what its manifest says."""

    exit_code = EXIT_CONFIG


class InputError(EdgeError):
    """A file the user named cannot be read as an image, video or folder."""

    exit_code = EXIT_NO_INPUT


class CameraError(EdgeError):
    """The camera cannot be opened or stopped delivering; the service retries."""

    exit_code = EXIT_UNAVAILABLE


class PublishError(EdgeError):
    """Events or the state directory cannot be written, or the MQTT thread died."""

    exit_code = EXIT_UNAVAILABLE


class WebError(EdgeError):
    """The address of the status page or of the metrics cannot be had; restarting may help."""

    exit_code = EXIT_UNAVAILABLE


class UnavailableError(EdgeError):
    """What a command needs does not answer: daemon, registry, broker, experiment store."""

    exit_code = EXIT_UNAVAILABLE
