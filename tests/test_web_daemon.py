"""The status page of the real daemon, its API, and both in a real browser."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import msgspec
import numpy as np
import pytest

from daemon import CLIP, Daemon
from edge.config import WebConfig
from edge.messages import EventBody, Health, Info, ModelInfo, Stats
from edge.web import View, WebServer
from mosquitto import free_port
from viewed import info_of
from waiting import wait_until

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

pytest.importorskip("litestar", reason="the extra `web` is not installed")
httpx = pytest.importorskip("httpx", reason="the extra `web` is not installed")

# No TLS here, and loading the authorities takes longer than a request.
QUICK: dict[str, Any] = {"timeout": 20, "verify": False}
ROUTES = ("/", "/api/info", "/api/stats", "/api/events", "/api/frame.jpg", "/healthz", "/schema")
MAX_RSS_BYTES = 190e6  # with both models, the page and its server


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a daemon's page that has shown an event; its broker is away."""
    port = free_port()
    web = {"enabled": True, "port": port}
    with Daemon(tmp_path_factory.mktemp("web"), 1, web=web) as daemon:
        daemon.wait_for_log("web.started")
        wait_until(lambda: ask(port, "/api/events").json(), 30)
        wait_until(lambda: ask(port, "/api/stats").json().get("detected"), 30)
        yield port


def ask(port: int, path: str) -> Any:
    return httpx.get(f"http://localhost:{port}{path}", **QUICK)


def test_api_answers_decode_into_the_daemon_types(port: int) -> None:
    info = msgspec.json.decode(ask(port, "/api/info").content, type=Info)
    stats = msgspec.json.decode(ask(port, "/api/stats").content, type=Stats)
    events = msgspec.json.decode(ask(port, "/api/events").content, type=list[EventBody])
    health = msgspec.json.decode(ask(port, "/healthz").content, type=Health)
    assert (info.device, info.cameras, info.boot_id) == ("gate", ("front",), stats.boot_id)
    assert stats.cameras["front"].state == "live"
    assert events[0].captured_utc >= events[-1].captured_utc
    assert len(ask(port, "/api/events?limit=1").json()) == 1
    assert (health.status, health.cameras["front"].state) == ("ok", "live")
    assert health.cameras["front"].frame_age_s is not None
    bgr = cv2.imdecode(
        np.frombuffer(ask(port, "/api/frame.jpg").content, np.uint8), cv2.IMREAD_COLOR
    )
    assert bgr is not None
    assert bgr.shape == (480, 640, 3)


def test_daemon_with_status_page_stays_within_its_memory_limit(port: int) -> None:
    for path in ROUTES:
        assert ask(port, path).status_code == 200
    stats = msgspec.json.decode(ask(port, "/api/stats").content, type=Stats)
    assert stats.rss_bytes is not None
    assert stats.rss_bytes < MAX_RSS_BYTES


def test_other_methods_and_unknown_paths_are_refused(port: int) -> None:
    assert ask(port, "/nowhere").status_code == 404
    assert ask(port, "/api/../edge.yaml").status_code == 404
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        for path in ROUTES:
            answer = httpx.request(method, f"http://localhost:{port}{path}", **QUICK)
            assert answer.status_code == 405


def test_schema_describes_every_route_with_the_payloads_types(port: int) -> None:
    schema = ask(port, "/schema").json()
    assert set(schema["paths"]) == set(ROUTES) - {"/", "/schema"}
    assert {"Info", "Stats", "EventBody", "Health"} <= set(schema["components"]["schemas"])
    fields = {field.encode_name for field in msgspec.structs.fields(Stats)}
    assert set(schema["components"]["schemas"]["Stats"]["properties"]) == fields
    assert "image/jpeg" in json.dumps(schema["paths"]["/api/frame.jpg"])


def test_page_loads_nothing_from_other_hosts(port: int) -> None:
    text = ask(port, "/").text
    assert not re.findall(r'(?:src|href)="(?!/|data:)[^"]*"', text)
    assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text)
    assert "innerHTML" not in text


SHOWN = (
    r'<figure id="figure" data-frame="&quot;front-[0-9a-f]+-\d+-1',
    r'<ol id="events".*?<li>.*?person',
    r'<h1 id="device">gate</h1>',
    r'id="camera-state" class="state good">live<',
    r'id="broker-state" class="state bad">(connecting|lost)<',
    r'<tbody id="stages"><tr><th scope="row">',
)


def test_browser_shows_the_picture_and_events(port: int, chrome: Chrome) -> None:
    def has_photograph() -> bool:
        png = np.frombuffer(chrome.get_screenshot_as_png(), np.uint8)
        shot = np.asarray(cv2.imdecode(png, cv2.IMREAD_COLOR))
        return len(np.unique(shot.reshape(-1, 3), axis=0)) > 10_000  # more than a page has

    chrome.get(f"http://localhost:{port}/")
    for part in SHOWN:
        wait_until(lambda part=part: re.search(part, chrome.page_source, re.DOTALL), 60)
    wait_until(has_photograph)


# The daemon's answers, with the longest camera name and the events of yesterday.
LONG_AGO = """
const asked = window.fetch;
window.fetch = async (path, options) => {
  const answer = await asked(path, options);
  if (!answer.ok || answer.headers.get("content-type") !== "application/json") return answer;
  const body = await answer.json();
  if (path === "/api/info") body.cameras = ["W".repeat(64)];
  if (path.startsWith("/api/events")) {
    for (const one of body) Object.assign(one, {
      id: "yesterday", captured_utc: new Date(Date.now() - 864e5).toISOString(),
      label: "motorcycle", kind: "update", colors: [{ name: "red", score: 1 }],
    });
  }
  return Response.json(body);
};
"""
# No new event from here on, and it is tomorrow.
TOMORROW = """
const asked = window.fetch, Now = Date;
const events = asked("/api/events?limit=50").then((answer) => answer.json());
window.fetch = async (path, options) =>
  path.startsWith("/api/events") ? Response.json(await events) : asked(path, options);
window.Date = class extends Now {
  constructor(...when) { super(...(when.length ? when : [Now.now() + 864e5])); }
};
"""
# Every picture breaks off, as on a slow network.
CUT = """
const asked = window.fetch;
window.tags = [];
window.fetch = async (path, options) => {
  if (!path.startsWith("/api/frame")) return asked(path, options);
  tags.push(options.headers["If-None-Match"]);
  const body = new ReadableStream({ start: (rest) => rest.error(new TypeError("cut")) });
  return new Response(body, { headers: { ETag: '"cut"' } });
};
"""
JUST_STARTED = """
const health = { status: "failing", cameras: {} };
window.fetch = async () => Response.json(health, { status: 503 });
"""


def test_page_dates_old_events_fits_a_phone_and_shows_colors_in_high_contrast(
    port: int, chrome: Chrome
) -> None:
    size = {"width": 320, "height": 640, "deviceScaleFactor": 1, "mobile": False}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "forced-colors", "value": "active"}]
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    chrome.get(f"http://localhost:{port}/")
    chrome.execute_script(LONG_AGO)
    yesterday = "return new Date(Date.now() - 864e5).toLocaleDateString()"
    first = "const one = document.querySelector('#events li:first-child');"
    wait_until(
        lambda: (
            chrome.execute_script(yesterday)
            in str(chrome.execute_script(f"{first} return one && one.textContent"))
        ),
        60,
    )
    wait_until(lambda: "WWW" in chrome.find_element("id", "picture-text").text, 30)
    assert chrome.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    lines = f"{first} const all = new Range(); all.selectNodeContents(one.querySelector('.kind'));"
    assert chrome.execute_script(f"{lines} return all.getClientRects().length") == 1
    assert "motorcycle update" in chrome.execute_script(f"{first} return one.textContent")
    patch = f"{first} return getComputedStyle(one.firstChild).backgroundColor"
    assert chrome.execute_script(patch) == "rgb(215, 40, 40)"
    chrome.execute_script(JUST_STARTED)
    wait_until(lambda: chrome.find_element("id", "daemon-state").text == "starting", 30)


def test_updates_leave_the_line_read_and_the_text_selected_where_they_are(
    port: int, chrome: Chrome
) -> None:

    def lines(what: str) -> Any:
        script = "const list = document.getElementById('events').children; return "
        return chrome.execute_script(script + what)

    chrome.get(f"http://localhost:{port}/")
    wait_until(lambda: lines("list.length") > 15, 60)
    wait_until(lambda: "lost: 127.0.0.1:1: " in chrome.find_element("id", "board").text, 30)
    chrome.execute_script(
        "const list = document.getElementById('events');"
        "list.scrollTop = 200; window.line = list.children[5];"
        "getSelection().selectAllChildren(document.querySelector('#models small'))"
    )
    first, top = lines("list[0].textContent"), lines("line.getBoundingClientRect().top")
    wait_until(lambda: lines("list[0].textContent") != first, 30)
    board = chrome.find_element("id", "board").text
    wait_until(lambda: chrome.find_element("id", "board").text != board, 30)
    assert abs(lines("line.isConnected && line.getBoundingClientRect().top") - top) < 2
    assert "sha256" in lines("getSelection().toString()")
    chrome.execute_script(TOMORROW)
    today = chrome.execute_script("return new Date(Date.now()).toLocaleDateString()")
    wait_until(lambda: today in lines("list[0].textContent"), 30)
    assert 15 < lines("list.length") <= 50


def test_page_gives_the_age_of_the_picture_shown_and_asks_again_for_one_cut_short(
    port: int, chrome: Chrome
) -> None:

    def caption() -> str:
        return str(chrome.find_element("id", "picture-text").text)

    chrome.get(f"http://localhost:{port}/")
    wait_until(lambda: caption() == "front, now", 60)
    chrome.execute_script(CUT)
    wait_until(lambda: re.fullmatch(r"front, \d+ s ago", caption()), 30)
    wait_until(lambda: chrome.execute_script("return tags.length > 2"), 30)
    assert '"cut"' not in chrome.execute_script("return tags")


def test_page_of_two_cameras_shows_the_one_chosen_and_the_states_of_both(
    chrome: Chrome, tmp_path: Path
) -> None:
    port, front = free_port(), "front" + "W" * 59
    cameras = {
        "door": {"source": str(CLIP), "loop": True},
        front: {"source": "rtsp://127.0.0.1:1/stream"},
    }

    def text(name: str) -> str:
        return str(chrome.find_element("id", name).text)

    with Daemon(tmp_path, 1, cameras=cameras, web={"enabled": True, "port": port}) as daemon:
        daemon.wait_for_log("service.started")
        chrome.get(f"http://localhost:{port}/")
        wait_until(lambda: text("camera-state") == f"door live; {front} lost", 60)
        wait_until(lambda: text("picture-text") == "door, now", 30)
        wait_until(lambda: "door" in text("camera-rows") and front in text("camera-rows"), 30)
        wait_until(lambda: "· door" in text("events"), 30)
        chooser = chrome.find_element("id", "camera")
        assert chooser.is_displayed()
        chooser.find_element("xpath", f"option[text()='{front}']").click()
        wait_until(lambda: text("picture-text") == front, 30)
        assert not chrome.find_element("id", "picture").is_displayed()
        chooser.find_element("xpath", "option[text()='door']").click()
        wait_until(lambda: text("picture-text") == "door, now", 30)
        assert chrome.find_element("id", "picture").is_displayed()
        size = {"width": 320, "height": 640, "deviceScaleFactor": 1, "mobile": False}
        chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        assert chrome.execute_script("return document.documentElement.scrollWidth <= innerWidth")


def test_page_shows_the_registrys_version_of_a_pulled_model(chrome: Chrome) -> None:
    model = ModelInfo(
        name="color-64", version="0.3.2", sha256="f" * 64, integer_only=True, runtime="r",
        pulled="1.4.0",
    )  # fmt: skip
    view, config = View(), WebConfig(enabled=True, port=free_port())
    view.tell_info(msgspec.structs.replace(info_of("front"), models={"color": model}))
    with WebServer(config, view):
        chrome.get(f"http://localhost:{config.port}/")
        shown = "color: color-64 0.3.2 (pulled as 1.4.0)"
        wait_until(lambda: shown in chrome.find_element("id", "models").text, 30)


def test_page_shows_nothing_as_true_now_when_the_daemon_is_gone(
    chrome: Chrome, tmp_path: Path
) -> None:
    port = free_port()
    web = {"enabled": True, "port": port}
    no_camera = {"front": {"source": "rtsp://127.0.0.1:1/stream"}}
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()

    def text(name: str) -> str:
        return str(chrome.find_element("id", name).get_property("textContent"))

    def latency() -> str:
        return str(chrome.find_element("id", "gauge").get_attribute("aria-valuetext"))

    with Daemon(first, 1, web=web) as daemon:
        daemon.wait_for_log("service.started")
        chrome.get(f"http://localhost:{port}/")
        wait_until(lambda: text("events") and text("camera-state") == "live", 60)
        wait_until(chrome.find_element("id", "picture").is_displayed, 30)
        wait_until(lambda: latency().endswith(" of 200 ms"), 30)
    wait_until(lambda: text("daemon-state").startswith("not reachable since "), 30)
    assert (text("camera-state"), text("broker-state")) == ("not known", "not known")
    assert text("picture-text").startswith("front, as of ")
    with Daemon(second, 1, cameras=no_camera, web=web) as daemon:
        daemon.wait_for_log("web.started")
        wait_until(lambda: text("daemon-state") == "working", 30)
        wait_until(lambda: not text("events"), 30)  # those of the daemon before are gone
        wait_until(lambda: latency() == "not known yet", 30)
        assert chrome.find_element("id", "no-events").is_displayed()
        assert not chrome.find_element("id", "picture").is_displayed()


def test_daemon_stops_with_a_browser_connected(tmp_path: Path) -> None:
    port = free_port()
    with (
        Daemon(tmp_path, 1, web={"enabled": True, "port": port}) as daemon,
        httpx.Client(base_url=f"http://localhost:{port}", timeout=20) as client,
    ):
        daemon.wait_for_log("web.started")
        assert client.get("/").status_code == 200
        daemon.wait_for_log("service.started")
        assert daemon.stop() == 0
    assert not [line for line in daemon.log if "Traceback" in line]


def test_camera_that_never_opens_is_healthy_and_its_address_stays_secret(tmp_path: Path) -> None:
    port = free_port()
    cameras = {"front": {"source": "rtsp://admin:hunter2@127.0.0.1:1/stream"}}
    with Daemon(tmp_path, 1, cameras=cameras, web={"enabled": True, "port": port}) as daemon:
        daemon.wait_for_log("state=lost")
        wait_until(lambda: "lost" in ask(port, "/healthz").text)
        assert ask(port, "/healthz").status_code == 200
        assert ask(port, "/api/frame.jpg").status_code == 503
        for path in ROUTES:
            assert not re.search("hunter2|admin|rtsp|stream", ask(port, path).text)


def test_change_of_the_page_needs_a_restart(tmp_path: Path) -> None:
    port = free_port()
    with Daemon(tmp_path, 1, web={"enabled": True, "port": port}) as daemon:
        daemon.wait_for_log("service.started")
        daemon.config["web"] = {"enabled": False}
        daemon.write_config()
        daemon.signal(signal.SIGHUP)
        assert "restart needed for a change of web" in daemon.wait_for_log("reload_refused")
        assert ask(port, "/schema").status_code == 200


def test_taken_port_aborts_the_start_with_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with Daemon(tmp_path, 1, web={"enabled": True, "port": port}) as daemon:
            assert daemon.wait() == 69
    (line,) = [line for line in daemon.log if line.startswith("edge: ")]
    assert line == (
        f"edge: web: 127.0.0.1:{port}: Address already in use; choose another web.port or web.host"
    )


@pytest.mark.parametrize("command", [["run", "--config"], ["check-config"]])
def test_missing_extra_is_a_config_error_that_names_the_package(
    tmp_path: Path, command: list[str]
) -> None:
    package = tmp_path / "without" / "litestar"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ModuleNotFoundError(name='litestar')")
    config = Daemon(tmp_path, 1, web={"enabled": True}).config_path
    run = subprocess.run(
        [sys.executable, "-m", "edge", *command, str(config)],
        env={**os.environ, "PYTHONPATH": str(package.parent)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 78
    assert "pip install 'edge-camera[web]'" in run.stderr
    assert "Traceback" not in run.stderr
