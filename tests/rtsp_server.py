"""A real RTSP server for tests: start, kill, freeze.

Run as a script it is the server itself, GStreamer's, under Debian's own Python (python3-gi):
`/usr/bin/python3 tests/rtsp_server.py PORT [USER PASSWORD]` serves a test picture, H.264, 20 Hz.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

DEBIAN_PYTHON = Path("/usr/bin/python3")
LOOPBACK = "127.0.0.1"
PIPELINE = (
    "( videotestsrc is-live=true pattern=ball ! video/x-raw,width=320,height=240,framerate=20/1 "
    "! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=10 ! rtph264pay name=pay0 )"
)


class RtspServer:
    """The server's process, on loopback."""

    def __init__(self, port: int, login: tuple[str, str] | None = None) -> None:
        self.port = port
        self._login = login
        self._process: subprocess.Popen[str] | None = None

    @property
    def address(self) -> str:
        """rtsp:// address of the picture, with the login."""
        login = "{}:{}@".format(*self._login) if self._login else ""
        return f"rtsp://{login}{LOOPBACK}:{self.port}/picture"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start and wait until it listens."""
        command = [str(DEBIAN_PYTHON), __file__, str(self.port), *(self._login or ())]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line == "listening\n", (
            "the RTSP server needs Debian's python3-gi, gir1.2-gst-rtsp-server-1.0 and "
            "gstreamer1.0-plugins-ugly (make apt-test)"
        )

    def kill(self) -> None:
        """kill -9; the port is free afterwards."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def freeze(self) -> None:
        """SIGSTOP: connections stay open and nothing comes."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


def serve(port: str, *login: str) -> None:
    """Serve until killed; print `listening` when clients can connect."""
    import gi

    gi.require_version("Gst", "1.0")
    gi.require_version("GstRtspServer", "1.0")
    from gi.repository import GLib, Gst, GstRtspServer

    Gst.init(None)
    server = GstRtspServer.RTSPServer.new()
    server.set_address(LOOPBACK)
    server.set_service(port)
    factory = GstRtspServer.RTSPMediaFactory.new()
    factory.set_launch(PIPELINE)
    factory.set_shared(True)
    if login:
        guard(GstRtspServer, server, factory, *login)
    server.get_mount_points().add_factory("/picture", factory)
    assert server.attach(None), f"port {port} is taken"
    sys.stdout.write("listening\n")
    sys.stdout.flush()
    GLib.MainLoop().run()


def guard(rtsp, server, factory, user: str, password: str) -> None:
    """Ask for a login, method `basic`."""
    auth = rtsp.RTSPAuth.new()
    token = rtsp.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    auth.add_basic(rtsp.RTSPAuth.make_basic(user, password), token)
    server.set_auth(auth)
    permissions = rtsp.RTSPPermissions()
    permissions.add_permission_for_role("viewer", "media.factory.access", True)
    permissions.add_permission_for_role("viewer", "media.factory.construct", True)
    factory.set_permissions(permissions)


if __name__ == "__main__":
    serve(*sys.argv[1:])
