"""Fast, held and foreign keys on the page for labelling colors, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import pytest

pytest.importorskip("matplotlib", reason="pip install 'edge-camera[tools]'")
pytest.importorskip("litestar", reason="pip install 'edge-camera[tools]'")
pytest.importorskip("rich", reason="pip install 'edge-camera[tools]'")
pytest.importorskip("httpx", reason="pip install 'edge-camera[tools]'")

from annotating import WAIT_S, Annotate, rows, state
from scenes import BGR, scene, write_scenes
from waiting import wait_until

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

SHIFT = 8
# Counts requests whose address ends so, and keeps their answers back until `letGo()`.
HOLD = """
const [end] = arguments, asked = window.fetch;
window.count = 0;
const open = new Promise((done) => { window.letGo = done; });
window.fetch = async (path, options) => {
  const answer = await asked(path, options);
  if (path.endsWith(end)) { window.count += 1; await open; }
  return answer;
};
"""


@pytest.fixture
def folder(tmp_path: Path, chrome: Chrome) -> Iterator[Path]:
    """A folder of three scenes, shown by the page; the first is blue above its object."""
    folder = write_scenes(tmp_path / "pictures")
    bgr = scene("red")
    bgr[:40] = BGR["blue"]
    cv2.imwrite(str(folder / "0-red.png"), bgr)
    with Annotate(folder) as command:
        chrome.get(command.url)
        wait_until(lambda: state(chrome).get("index") == "0", WAIT_S)
        yield folder


def press(chrome: Chrome, key: str, code: str, modifiers: int = 0, times: int = 1) -> None:
    """Press a key of any layout; more times: as the keyboard repeats one that is held."""
    event: dict[str, Any] = {"key": key, "code": code, "modifiers": modifiers}
    for number in range(times):
        down = event | {"type": "keyDown", "autoRepeat": number > 0}
        chrome.execute_cdp_cmd("Input.dispatchKeyEvent", down)
    chrome.execute_cdp_cmd("Input.dispatchKeyEvent", event | {"type": "keyUp"})


def click(chrome: Chrome) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    canvas = chrome.find_element("id", "canvas")
    ActionChains(chrome).move_to_element_with_offset(canvas, 20, 0).click().perform()


def is_red(chrome: Chrome) -> bool:
    return bool(chrome.find_elements("css selector", "[data-name=red][aria-checked=true]"))


def test_held_enter_answers_one_object(chrome: Chrome, folder: Path) -> None:
    press(chrome, "Enter", "Enter")
    wait_until(lambda: state(chrome)["index"] == "1", WAIT_S)
    press(chrome, "Enter", "Enter", times=40)
    wait_until(lambda: state(chrome)["index"] == "2", WAIT_S)
    press(chrome, "u", "KeyU")
    assert state(chrome)["labelled"] == "2"
    press(chrome, "z", "KeyZ", times=40)
    wait_until(lambda: state(chrome)["index"] == "1", WAIT_S)
    assert [row["image"] for row in rows(folder)] == ["0-red.png"]


def test_enter_during_the_cut_does_not_accept_the_colors_from_before_the_click(
    chrome: Chrome, folder: Path
) -> None:
    assert "blue" in chrome.find_element("id", "also").text  # of the whole picture
    chrome.execute_script(HOLD, "/mask")
    click(chrome)
    wait_until(lambda: chrome.execute_script("return count"), WAIT_S)
    press(chrome, "Enter", "Enter")
    assert chrome.find_element("id", "hint").text == "cutting…"
    chrome.execute_script("letGo()")
    wait_until(lambda: state(chrome)["outlines"] == "1", WAIT_S)
    assert state(chrome)["labelled"] == "0"
    press(chrome, "Enter", "Enter")
    wait_until(lambda: state(chrome)["index"] == "1", WAIT_S)
    assert [row["colors_1"] for row in rows(folder)] == [["red"]]


def test_keys_while_an_object_is_loaded_do_not_leave_the_page_empty(
    chrome: Chrome, folder: Path
) -> None:
    del folder
    click(chrome)
    wait_until(lambda: state(chrome)["outlines"] == "1", WAIT_S)
    chrome.execute_script(HOLD, "/objects/1")
    press(chrome, "ArrowRight", "ArrowRight")
    wait_until(lambda: chrome.execute_script("return count"), WAIT_S)
    press(chrome, "+", "NumpadAdd")
    press(chrome, "Escape", "Escape")
    chrome.execute_script("letGo()")
    wait_until(lambda: state(chrome)["index"] == "1", WAIT_S)
    assert chrome.find_element("id", "image").text == "1-blue.png"


def test_held_plus_asks_for_one_mask_at_a_time(chrome: Chrome, folder: Path) -> None:
    del folder
    click(chrome)
    wait_until(lambda: state(chrome)["outlines"] == "1", WAIT_S)
    chrome.execute_script(HOLD, "/mask")
    press(chrome, "+", "NumpadAdd", times=120)  # more than the server takes
    assert chrome.execute_script("return count") <= 1
    chrome.execute_script("letGo()")
    wait_until(lambda: chrome.find_element("id", "hint").text == "", WAIT_S)
    assert chrome.execute_script("return count") == 2
    assert not chrome.find_element("id", "fault").is_displayed()


@pytest.mark.parametrize(
    ("key", "code", "modifiers"),
    [
        ("R", "KeyR", 0),  # caps lock
        ("к", "KeyR", 0),  # Cyrillic
        ("\u03c1", "KeyR", 0),  # Greek
        ("4", "Digit4", SHIFT),  # French
        ("4", "Numpad4", 0),
    ],
)
def test_keys_of_other_layouts_name_the_dominant_color(
    chrome: Chrome, folder: Path, key: str, code: str, modifiers: int
) -> None:
    del folder
    press(chrome, "u", "KeyU")
    assert not is_red(chrome)
    press(chrome, key, code, modifiers)
    assert is_red(chrome)


def test_mask_shown_again_when_the_window_loses_the_held_space(
    chrome: Chrome, folder: Path
) -> None:
    del folder
    event = {"key": " ", "code": "Space", "type": "keyDown"}
    chrome.execute_cdp_cmd("Input.dispatchKeyEvent", event)
    assert chrome.execute_script("return page.peek")
    chrome.execute_script("window.dispatchEvent(new Event('blur'))")
    assert not chrome.execute_script("return page.peek")


def test_ctrl_click_of_macos_marks_background(chrome: Chrome, folder: Path) -> None:
    del folder
    chrome.execute_script(
        "canvas.dispatchEvent(new MouseEvent('contextmenu', {button: 0, ctrlKey: true,"
        " clientX: innerWidth / 3, clientY: innerHeight / 2}))"
    )
    assert [click["is_object"] for click in chrome.execute_script("return page.clicks")] == [False]


def test_arrow_at_the_first_object_keeps_the_clicks(chrome: Chrome, folder: Path) -> None:
    del folder
    click(chrome)
    wait_until(lambda: state(chrome)["outlines"] == "1", WAIT_S)
    press(chrome, "ArrowLeft", "ArrowLeft")
    assert len(chrome.execute_script("return page.clicks")) == 1


def test_picture_keeps_its_shape_when_the_answer_grows(chrome: Chrome, folder: Path) -> None:
    del folder
    size = {"width": 1366, "height": 560, "deviceScaleFactor": 1, "mobile": False}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    wait_until(lambda: is_sharp(chrome), WAIT_S)
    height = chrome.execute_script("return canvas.clientHeight")
    for letter in "BGYEPKWOIN":  # further colors on two lines
        press(chrome, letter, f"Key{letter}", SHIFT)
    assert chrome.execute_script("return canvas.clientHeight") > height
    wait_until(lambda: is_sharp(chrome), WAIT_S)


def is_sharp(chrome: Chrome) -> bool:
    """Return whether the canvas has a pixel for each pixel of the screen."""
    return bool(
        chrome.execute_script(
            "return canvas.width === canvas.clientWidth && canvas.height === canvas.clientHeight"
        )
    )


def test_colors_and_choice_are_seen_with_forced_colors(chrome: Chrome, folder: Path) -> None:
    del folder
    features = [{"name": "forced-colors", "value": "active"}]
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    press(chrome, "r", "KeyR")
    chosen, patch = "[data-name=red]", "[data-name=red] i"
    assert style(chrome, patch, "backgroundColor") == "rgb(215, 40, 40)"
    ground = style(chrome, chosen, "backgroundColor")
    assert ground != style(chrome, "[data-name=blue]", "backgroundColor")
    assert "rgb(215, 40, 40)" in chrome.execute_script(
        "return [...$('shares').children].map((part) => getComputedStyle(part).backgroundColor)"
    )


def style(chrome: Chrome, selector: str, name: str) -> str:
    return str(
        chrome.execute_script(
            "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]",
            selector,
            name,
        )
    )
