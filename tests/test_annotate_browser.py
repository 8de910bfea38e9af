"""The page for labelling colors in a real browser."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("matplotlib", reason="pip install 'edge-camera[tools]'")
pytest.importorskip("litestar", reason="pip install 'edge-camera[tools]'")
pytest.importorskip("rich", reason="pip install 'edge-camera[tools]'")
pytest.importorskip("httpx", reason="pip install 'edge-camera[tools]'")

from annotating import WAIT_S, Annotate, filled, rows, state
from scenes import overlap, write_scenes
from tools.color.data.label_file import LabelFile
from tools.color.data.objects import labels_path
from waiting import wait_until

if TYPE_CHECKING:
    from selenium.webdriver import Chrome


def test_browser_click_key_enter_undo_and_resume(chrome: Chrome, tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "pictures")
    with Annotate(folder) as command:
        chrome.get(command.url)
        label_in_browser(chrome, folder)
        command.process.send_signal(signal.SIGKILL)
    with Annotate(folder) as again:
        chrome.get(again.url)
        wait_until(lambda: state(chrome).get("index") == "2", WAIT_S)
        assert state(chrome)["labelled"] == "2"
        assert [entry for entry in chrome.get_log("browser") if entry["level"] == "SEVERE"] == []
    assert [row["label_1"] for row in LabelFile(labels_path(folder)).rows.values()] == [
        "blue",
        "purple",
    ]


def test_browser_continues_after_a_broken_picture(chrome: Chrome, tmp_path: Path) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    folder = write_scenes(tmp_path / "pictures")
    (folder / "1-blue.png").write_bytes(b"no picture")
    with Annotate(folder) as command:
        chrome.get(command.url)
        for place in ("0", "1", "2"):
            wait_until(lambda here=place: state(chrome).get("index") == here, WAIT_S)  # type: ignore[misc]
            if place == "1":
                assert "1-blue.png" in chrome.find_element("id", "fault").text
                assert chrome.find_element("id", "image").text == ""
                assert chrome.find_element("id", "shares").text == ""
                assert "Enter goes on" in chrome.find_element("id", "hint").text
            ActionChains(chrome).send_keys(Keys.ENTER).perform()
        wait_until(lambda: state(chrome)["labelled"] == "2", WAIT_S)
    assert [row["image"] for row in rows(folder)] == ["0-red.png", "2-yellow.png"]


def test_outdated_tab_gets_its_answer_refused_with_a_message(
    chrome: Chrome, tmp_path: Path
) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    def press(*keys: str) -> None:
        ActionChains(chrome).send_keys(*keys).perform()

    folder = write_scenes(tmp_path / "pictures")
    with Annotate(folder) as command:
        chrome.get(command.url)
        wait_until(lambda: state(chrome).get("index") == "0", WAIT_S)
        first = chrome.current_window_handle
        chrome.switch_to.new_window("tab")
        chrome.get(command.url)
        wait_until(lambda: state(chrome).get("index") == "0", WAIT_S)
        press("r", Keys.ENTER)
        wait_until(lambda: state(chrome).get("index") == "1", WAIT_S)
        chrome.switch_to.window(first)
        press("b", Keys.ENTER)
        fault = chrome.find_element("id", "fault")
        wait_until(fault.is_displayed, WAIT_S)
        assert fault.text.startswith("not saved: this object was answered")
        assert (state(chrome)["saved"], state(chrome)["labelled"]) == ("red", "1")
        assert [row["label_1"] for row in rows(folder)] == ["red"]
        press("b", Keys.ENTER)  # the keys still work
        wait_until(lambda: state(chrome).get("index") == "1", WAIT_S)
        assert not fault.is_displayed()
        assert [row["label_1"] for row in rows(folder)] == ["blue"]


def test_enter_on_a_button_reached_with_tab_presses_that_button(
    chrome: Chrome, tmp_path: Path
) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    folder = write_scenes(tmp_path / "pictures")
    with Annotate(folder) as command:
        chrome.get(command.url)
        wait_until(lambda: state(chrome).get("index") == "0", WAIT_S)
        keys = ActionChains(chrome)
        keys.send_keys(Keys.TAB, Keys.TAB, Keys.TAB).perform()  # canvas, previous, next
        assert chrome.switch_to.active_element.get_attribute("id") == "next"
        for pressed, place in ((Keys.ENTER, "1"), (Keys.SPACE, "2")):
            ActionChains(chrome).send_keys(pressed).perform()
            wait_until(lambda here=place: state(chrome).get("index") == here, WAIT_S)  # type: ignore[misc]
        assert state(chrome)["labelled"] == "0"
        chrome.find_element("css selector", "#terms button").click()  # the mouse leaves no focus
        ActionChains(chrome).send_keys(Keys.ENTER).perform()
        wait_until(lambda: state(chrome)["labelled"] == "1", WAIT_S)


def test_page_fits_a_phone(chrome: Chrome, tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "a-folder-with-a-name-that-is-longer-than-a-phone-is-wide")
    with Annotate(folder) as command:
        size = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": False}
        chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        chrome.get(command.url)
        wait_until(lambda: state(chrome).get("index") == "0", WAIT_S)
        assert chrome.execute_script("return document.documentElement.scrollWidth <= innerWidth")


def label_in_browser(chrome: Chrome, folder: Path) -> None:
    """Click, correct, accept; accept another and take it back; give it another color."""
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    def press(*keys: str) -> None:
        ActionChains(chrome).send_keys(*keys).perform()

    wait_until(lambda: state(chrome).get("outlines") == "0", WAIT_S)
    canvas = chrome.find_element("id", "canvas")
    ActionChains(chrome).move_to_element_with_offset(canvas, 20, 0).click().perform()
    wait_until(lambda: state(chrome).get("outlines") == "1", WAIT_S)
    assert "red" in chrome.find_element("id", "surfaces").text
    chosen = "#terms button[aria-checked=true]"
    press("b")
    assert "blue" in chrome.find_element("css selector", chosen).text
    press(Keys.ENTER)
    wait_until(lambda: state(chrome).get("index") == "1", WAIT_S)
    (row,) = rows(folder)
    assert (row["label_1"], row["colors_1"][0], row["image"]) == ("blue", "blue", "0-red.png")
    assert overlap(filled(row["outline_1"])) > 0.9
    press("y", Keys.ENTER)
    wait_until(lambda: state(chrome).get("index") == "2", WAIT_S)
    assert len(rows(folder)) == 2
    press("z")
    wait_until(lambda: state(chrome).get("index") == "1", WAIT_S)
    assert len(rows(folder)) == 1
    press(Keys.ARROW_LEFT)
    wait_until(lambda: state(chrome).get("saved") == "blue", WAIT_S)
    assert state(chrome)["outlines"] == "1"  # the saved mask is shown again
    press(Keys.ARROW_RIGHT)
    wait_until(lambda: state(chrome).get("index") == "1", WAIT_S)
    press("9", Keys.ENTER)
    wait_until(lambda: state(chrome).get("index") == "2", WAIT_S)
