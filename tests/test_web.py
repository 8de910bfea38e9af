"""The status page's server on a view that the test fills: a real server, real requests."""

from __future__ import annotations

import base64
import gc
import hashlib
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

import edge
from edge.config import WebConfig
from edge.errors import ConfigError, WebError
from edge.messages import Health
from edge.web import View, WebServer, check_installed
from edge.web.view import HEALTHY_S
from fakes import FakeClock
from mosquitto import free_port
from served import QUICK, Site, httpx, raw
from viewed import decoded, health_of, info_of, result
from waiting import wait_until

connection = pytest.importorskip("edge.web.connection", reason="the extra `web` is not installed")

PAGE = Path(edge.__file__).parent / "web" / "page"
ROUTES = ("/", "/api/info", "/api/stats", "/api/events", "/api/frame.jpg", "/healthz", "/schema")


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    with WebServer(site.config, site.view):
        yield site


def test_answers_before_the_first_frame_say_that_nothing_is_known(site: Site) -> None:
    for path in ("/api/info", "/api/stats", "/api/frame.jpg"):
        answer = site.get(path)
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert answer.json()["detail"] == "not known yet; ask again"
    assert site.get("/api/events").json() == []
    assert site.get("/healthz").status_code == 503


def test_health_is_ok_while_frames_arrive_or_the_camera_is_retried(site: Site) -> None:
    site.view.tell_camera("front", "live", is_paused=False)
    site.view.tell_progress()
    site.clock.advance(HEALTHY_S)
    assert site.get("/healthz").status_code == 200
    site.clock.advance(1)
    site.view.tell_camera("front", "live", is_paused=False)
    answer = site.get("/healthz")
    assert answer.status_code == 503
    assert msgspec.json.decode(answer.content, type=Health).status == "failing"
    site.view.tell_camera("front", "lost", is_paused=False)
    site.view.tell_progress()
    answer = site.get("/healthz")
    assert answer.status_code == 200
    assert msgspec.json.decode(answer.content, type=Health) == health_of("lost")


def test_health_has_the_age_of_the_newest_frame_and_the_pause() -> None:
    view = View(FakeClock(5.0))
    assert view.health() == health_of("", "failing")
    seen = result(1)
    view.tell_frame(replace(seen, frame=replace(seen.frame, captured_mono_s=3.5)))
    view.tell_camera("front", "live", is_paused=True)
    view.tell_progress()
    assert view.health() == health_of("live", frame_age_s=1.5, paused=True)


def test_each_camera_has_its_own_picture_and_health(site: Site) -> None:
    site.view.tell_info(info_of("front", "door"))
    seen = result(1)
    site.view.tell_frame(seen)
    assert site.get("/api/frame.jpg?camera=door").status_code == 503
    dark = np.zeros((120, 160, 3), np.uint8)
    site.view.tell_frame(replace(seen, frame=replace(seen.frame, camera="door", bgr=dark)))
    pictures = [
        site.get(f"/api/frame.jpg{chosen}") for chosen in ("", "?camera=front", "?camera=door")
    ]
    assert [decoded(one.content).shape for one in pictures] == [
        (240, 320, 3), (240, 320, 3), (120, 160, 3)
    ]  # fmt: skip
    tags = [one.headers["etag"] for one in pictures]
    assert tags[0] == tags[1] != tags[2]
    site.view.tell_camera("front", "lost", is_paused=False)
    site.view.tell_camera("door", "live", is_paused=True)
    health = msgspec.json.decode(site.get("/healthz").content, type=Health)
    assert {name: (one.state, one.paused) for name, one in health.cameras.items()} == {
        "front": ("lost", False), "door": ("live", True)
    }  # fmt: skip
    wrong = site.get("/api/frame.jpg?camera=roof")
    assert wrong.status_code == 404
    assert wrong.json()["detail"] == "no such camera; known: front, door"


def test_head_is_like_get_without_a_body(site: Site) -> None:
    site.view.tell_camera("front", "live", is_paused=False)
    site.view.tell_progress()
    answer = httpx.head(f"http://127.0.0.1:{site.config.port}/healthz", **QUICK)
    assert (answer.status_code, answer.content) == (200, b"")


def test_picture_is_sent_once_and_then_answered_not_modified(site: Site) -> None:
    site.view.tell_info(info_of("front"))
    site.view.tell_frame(result(1))
    first = site.get("/api/frame.jpg")
    assert first.headers["content-type"] == "image/jpeg"
    assert decoded(first.content).shape == (240, 320, 3)
    again = site.get("/api/frame.jpg", **{"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    weak = f'W/{first.headers["etag"]}, "other"'  # as proxies send it
    assert site.get("/api/frame.jpg", **{"If-None-Match": weak}).status_code == 304
    plain = site.get("/api/frame.jpg?boxes=false", **{"If-None-Match": first.headers["etag"]})
    assert plain.status_code == 200


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("/api/events?limit=0", "limit"),
        ("/api/events?limit=101", "limit"),
        ("/api/events?limit=many", "limit"),
        ("/api/frame.jpg?boxes=perhaps", "boxes"),
    ],
)
def test_invalid_query_is_a_400_that_names_it(site: Site, path: str, fault: str) -> None:
    answer = site.get(path)
    assert answer.status_code == 400
    assert [one["key"] for one in answer.json()["extra"]] == [fault]


def test_every_response_denies_other_origins_and_is_not_stored(site: Site) -> None:
    answers = [
        site.get(path, Origin="http://elsewhere.example")
        for path in (*ROUTES, "/nowhere", "/api/events?limit=0")
    ]
    for answer in (*answers, site.get("/", Host="elsewhere.example")):
        headers = answer.headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["cache-control"] == "no-store"
        policy = dict(
            part.split(maxsplit=1) for part in headers["content-security-policy"].split(";")
        )
        assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
        assert policy["connect-src"] == "'self'"
        assert "access-control-allow-origin" not in headers
        assert "server" not in headers


def test_content_security_policy_allows_the_pages_own_style_and_script(site: Site) -> None:
    answer = site.get("/")
    for tag, name in (("style", "style.css"), ("script", "script.js")):
        inside = answer.text.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0]
        assert (PAGE / name).read_text("utf-8") in inside
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in answer.headers["content-security-policy"]


def test_internal_error_is_logged_and_not_sent_to_the_client(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(limit: int) -> list[bytes]:
        raise RuntimeError("of nobody's business")

    monkeypatch.setattr(site.view, "events", fail)
    answer = site.get("/api/events")
    assert answer.status_code == 500
    assert answer.json() == {"status_code": 500, "detail": "failed, see the daemon's log"}
    assert "web.failed path=/api/events" in caplog.text
    assert "of nobody's business" in caplog.text


@pytest.mark.parametrize(
    ("host", "code"),
    [
        ("localhost", 200),
        ("LOCALHOST:8080", 200),
        ("127.0.0.1:1", 200),
        ("[::1]:8080", 200),
        ("evil.example", 400),
        ("localhost.evil.example", 400),
        ("127.0.0.1.evil.example:8080", 400),
        ("evil.example:localhost", 400),
        ("", 400),
    ],
)
def test_server_on_the_loopback_answers_only_to_its_names(site: Site, host: str, code: int) -> None:
    assert site.get("/schema", Host=host).status_code == code


@pytest.mark.parametrize(("host", "name"), [("127.0.0.2", "127.0.0.2"), ("::1", "[::1]")])
def test_server_on_another_address_of_the_loopback_answers_to_it(host: str, name: str) -> None:
    config = WebConfig(enabled=True, host=host, port=free_port())
    with WebServer(config, View()):
        at = f"http://{name}:{config.port}/schema"
        assert httpx.get(at, **QUICK).status_code == 200
        assert httpx.get(at, headers={"Host": "elsewhere.example"}, **QUICK).status_code == 400


def test_a_request_without_a_host_is_refused_on_the_loopback(site: Site) -> None:
    assert b" 400 " in raw(site, b"GET /healthz HTTP/1.0\r\n\r\n")


def test_any_host_is_accepted_on_an_open_server_which_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    site = Site()
    with WebServer(site.config, site.view):
        assert "web.open" not in caplog.text  # on the loopback
    site.config = msgspec.structs.replace(site.config, host="0.0.0.0")
    with WebServer(site.config, site.view):
        assert site.get("/schema", Host="gate.lan:8080").status_code == 200
    assert "web.open host=0.0.0.0 anyone on that network can see the page" in caplog.text


def test_stop_joins_frees_the_port_and_is_idempotent() -> None:
    site = Site()
    server = WebServer(site.config, site.view)
    before = set(threading.enumerate())
    with server, httpx.Client() as client:
        client.get(f"http://127.0.0.1:{site.config.port}/schema")  # its connection stays open
        server.__exit__(None, None, None)
        assert set(threading.enumerate()) == before
    with WebServer(site.config, site.view):
        assert site.get("/schema").status_code == 200


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_client_that_does_not_read_delays_the_stop_only_briefly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("edge.web.server.CLOSE_S", 0.1)
    site = Site()
    noise = np.random.default_rng(0).integers(0, 256, (2000, 3000, 3), np.uint8)
    seen = result(1)
    site.view.tell_info(info_of("front"))
    site.view.tell_frame(replace(seen, frame=replace(seen.frame, bgr=noise)))
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with WebServer(site.config, site.view):
            client.connect(("127.0.0.1", site.config.port))
            client.sendall(b"GET /api/frame.jpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert client.recv(100)
            began_s = time.monotonic()
        assert time.monotonic() - began_s < connection.ANSWERED_S / 2
    gc.collect()  # uvicorn leaves the connection to it, which warns


def test_failed_server_is_logged_and_the_daemon_continues(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("out of descriptors")

    monkeypatch.setattr("uvicorn.Server.run", fail)
    with WebServer(Site().config, View()):
        wait_until(lambda: "web.died" in caplog.text)
    assert "out of descriptors" in caplog.text


@pytest.mark.parametrize("name", ["litestar", "uvicorn"])
def test_missing_package_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=rf"{name} is missing; run: .*edge-camera\[web\]"):
        check_installed(WebConfig(enabled=True))
    check_installed(WebConfig())


def test_unavailable_address_is_a_one_line_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(WebError, match=f"127.0.0.1:{port}: Address already in use; choose"):
            WebServer(WebConfig(enabled=True, port=port), View()).__enter__()
    for host, fault in (
        ("192.0.2.1", "Cannot assign"),
        ("nowhere.invalid", "no such host"),
        ("x" * 64 + ".lan", "no such host"),
    ):
        with pytest.raises(WebError, match=fault):
            WebServer(WebConfig(enabled=True, host=host), View()).__enter__()


def test_switched_off_it_neither_listens_nor_imports() -> None:
    code = (
        "import sys, edge.service, edge.web, edge.config\n"
        "with edge.web.WebServer(edge.config.WebConfig(), edge.web.View()):\n"
        "    print(sorted({'litestar', 'uvicorn'} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert run.stdout == "[]\n"


def test_the_page_leaves_the_daemons_logging_as_it_is() -> None:
    site = Site()
    root = logging.getLogger()
    before = root.level, list(root.handlers)
    with WebServer(site.config, site.view):
        assert (root.level, list(root.handlers)) == before
