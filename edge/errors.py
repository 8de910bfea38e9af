"""Exceptions of the daemon; a class exists only if callers handle it differently.

Exit codes (documented in README.md): 0 success, 1 unexpected failure, 2 wrong usage,
3 something is wrong on the board (`edge status`, `edge doctor`), 4 nothing new (only where asked
for), 66 unreadable input, 69 service unavailable, 78 wrong config or model.
"""

from __future__ import annotations

import errno
import sys

EXIT_OK = 0
EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_UNHEALTHY = 3
EXIT_UNCHANGED = 4
EXIT_NO_INPUT = 66  # EX_NOINPUT of sysexits.h
EXIT_UNAVAILABLE = 69  # EX_UNAVAILABLE
EXIT_CONFIG = 78  # EX_CONFIG

# errno of an OSError: disk full, the user's quota used up, or the file size limit reached.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def why_not_written(error: OSError) -> str:
    """Return why something could not be written, and the fix."""
    fix = "make room and start again" if error.errno in NO_ROOM else "check the place and the name"
    return f"{error.strerror}; {fix}"


def install_command(extra: str) -> str:
    """Return the shell command that installs an extra for the Python that runs this.

    On a board, plain `pip` is the system's and does not install into /opt/edge.
    """
    return f"{sys.executable} -m pip install 'edge-camera[{extra}]'"


def one_line(text: object) -> str:
    """Return a message as one line, with unprintable characters replaced by blanks."""
    return "".join(char if char.isprintable() else " " for char in str(text)).strip()


def brief(text: object, limit: int = 200) -> str:
    """Return another program's message as one line, single-spaced, cut to `limit` characters."""
    return " ".join(one_line(text).split())[:limit]


class EdgeError(Exception):
    """A failure whose one-line message names the thing and the fix."""

    exit_code = EXIT_FAILURE


class UsageError(EdgeError):
    """An option of a command has a wrong value, or two contradict each other."""

    exit_code = EXIT_USAGE


class ConfigError(EdgeError):
    """The config file is wrong; restarting cannot help."""

    exit_code = EXIT_CONFIG


class ModelError(EdgeError):
    """A model folder is missing, damaged, or contradicts its manifest."""

    exit_code = EXIT_CONFIG


class InputError(EdgeError):
    """A file the user named cannot be read as an image, video or folder."""

    exit_code = EXIT_NO_INPUT


class CameraError(EdgeError):
    """The camera cannot be opened or stopped delivering; capture retries, or a new process must."""

    exit_code = EXIT_UNAVAILABLE


class PublishError(EdgeError):
    """Events or the state directory cannot be written, or the MQTT thread died."""

    exit_code = EXIT_UNAVAILABLE


class WebError(EdgeError):
    """The address of the status page or the metrics cannot be bound; restarting may help."""

    exit_code = EXIT_UNAVAILABLE


class UnavailableError(EdgeError):
    """A service that a command needs is unavailable: daemon, registry, broker, experiment store."""

    exit_code = EXIT_UNAVAILABLE
