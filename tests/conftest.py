"""Fixtures shared by all tests."""

from __future__ import annotations

import contextlib
import importlib
import logging
import shutil
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest
from _pytest.logging import LogCaptureHandler

from browser import browser
from classifying import Walk, skip_without, taken_through
from disk import small_file_system
from edge.logs import facts
from fault_table import Fault, FaultTable
from inferring import Infer, tiny_models
from mosquitto import Certificates, Mosquitto, Subscriber, find_mosquitto, make_certificates
from publishing import Start, starting
from watching import Watch, watching

with contextlib.suppress(ImportError):  # comes with PyTorch for CUDA; crashes after TensorFlow
    importlib.import_module("triton._C.libtriton")

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

    from boards import Board
    from registered import Registry


hypothesis.settings.register_profile("edge", deadline=None)  # other programs take time, too
hypothesis.settings.load_profile("edge")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update", action="store_true", help="rewrite stored references")
    parser.addoption("--fault-tries", type=int, default=1, help="how often each fault is injected")
    parser.addoption("--kills", type=int, default=20, help="power cuts (kill -9) of the spool")
    parser.addoption("--fault-table", type=Path, help="write the table of faults as Markdown")


TABLE = pytest.StashKey[FaultTable]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TABLE] = FaultTable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files of slow tests: in the end one worker would be busy with them alone."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_sessionfinish(session: pytest.Session) -> None:
    path = session.config.getoption("--fault-table")
    if path is not None:
        session.config.stash[TABLE].write(path)


@pytest.fixture
def fault(request: pytest.FixtureRequest) -> Fault:
    """The counter of the fault that the test's mark names."""
    mark = request.node.get_closest_marker("fault")
    row = request.config.stash[TABLE].row(mark.args[0])
    return Fault(row, request.config.getoption("--fault-tries"))


@pytest.fixture
def kills(request: pytest.FixtureRequest) -> int:
    """How many power cuts."""
    return int(request.config.getoption("--kills"))


@pytest.fixture(autouse=True, scope="session")
def _experiments_of_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what tests train out of the developer's own experiments."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", str(tmp_path_factory.getbasetemp() / "mlflow"))
        yield


@pytest.fixture(autouse=True)
def _signals_as_before() -> Iterator[None]:
    """Undo what a test does to signals: what it ignores would be ignored by later children."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Undo what a test changes of logging in this process: levels, handlers, hidden secrets."""
    root = logging.getLogger()
    loggers = [root, *(logging.getLogger(name) for name in ("edge", "tools"))]
    before = [(item, item.level, item.propagate, list(item.handlers)) for item in loggers]
    yield
    facts._secrets.clear()  # they would be hidden in what other tests expect
    for item, level, propagate, handlers in before:
        item.setLevel(level)
        item.propagate = propagate
        for handler in set(item.handlers) - set(handlers):
            if not isinstance(handler, LogCaptureHandler):  # pytest's own come and go
                item.removeHandler(handler)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of one mebibyte; needs the right to mount."""
    with small_file_system(tmp_path / "disk", 1 << 20) as folder:
        yield folder


@pytest.fixture(scope="session")
def mosquitto_program() -> str:
    """The path of the real broker; tests that need it are skipped without."""
    program = find_mosquitto()
    if program is None:
        pytest.skip("mosquitto is not installed: apt install mosquitto")
    return program


@pytest.fixture
def mosquitto(mosquitto_program: str, tmp_path: Path) -> Iterator[Mosquitto]:
    """A running broker without a login and without persistence."""
    folder = tmp_path / "mosquitto"
    folder.mkdir()
    with Mosquitto(folder) as broker:
        yield broker


@pytest.fixture
def subscriber(mosquitto: Mosquitto) -> Iterator[Subscriber]:
    """A client that records all that the broker delivers."""
    with Subscriber(mosquitto.port) as subscriber:
        yield subscriber


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """PEM files of an authority, a broker and a client."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def one_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """A running browser."""
    with browser(tmp_path_factory.mktemp("profile")) as chrome:
        yield chrome


@pytest.fixture
def chrome(one_browser: Chrome) -> Iterator[Chrome]:
    """A new tab of a browser, which starts once for a file; emulations end with the tab."""
    first = one_browser.current_window_handle
    one_browser.switch_to.new_window("tab")
    one_browser.get_log("browser")  # lines of tests before
    yield one_browser
    for tab in set(one_browser.window_handles) - {first}:
        one_browser.switch_to.window(tab)
        one_browser.close()
    one_browser.switch_to.window(first)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start publishers that end with the test."""
    with starting(tmp_path) as start:
        yield start


@pytest.fixture(scope="module")
def tiny_models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of tiny models."""
    return tiny_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def infer(tiny_models_dir: Path, capsys: pytest.CaptureFixture[str]) -> Infer:
    """`edge infer` with the tiny models."""
    return Infer(tiny_models_dir, capsys)


@pytest.fixture
def watch(tiny_models_dir: Path) -> Callable[..., Watch]:
    """Return a maker of pipelines with the tiny models; see `watching`."""
    return partial(watching, tiny_models_dir)


@pytest.fixture
def signed_registry(tmp_path: Path) -> Registry:
    """An empty registry and a key that signs for it."""
    from registered import Registry

    return Registry(tmp_path)


@pytest.fixture
def board(tmp_path: Path) -> Board:
    """A board without models, and a registry that it trusts."""
    from boards import Board

    return Board(tmp_path)


@pytest.fixture
def ready(tmp_path: Path) -> Path:
    """An imported set of 20 pictures."""
    import labelled

    labelled.imported(labelled.coco(tmp_path / "source", 20), "coco", tmp_path / "set")
    return tmp_path / "set"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A detector of random weights, as `train detect` reads and writes it."""
    from tiny_detector import random_weights

    return random_weights(tmp_path)


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """A COCO file of eight pictures with a person each."""
    from tiny_detector import set_of_persons

    return set_of_persons(tmp_path)


@pytest.fixture(scope="session")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Walk:
    """A trained classifier, taken through every command once; it takes minutes."""
    skip_without("rich", "matplotlib", "tensorflow", "keras", "optuna")
    return taken_through(tmp_path_factory.mktemp("classifier"))
