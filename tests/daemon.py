"""The real daemon as a process of its own, for tests."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Self

import yaml

import edge

CLIP = Path(edge.__file__).parent / "assets" / "demo.mp4"


class Daemon:
    """`edge run` on a config made here; a context manager that always ends it.

    options: of `edge`, before the command.
    environment: of the process, this one's by default.
    changes: sections that replace the default ones.
    """

    def __init__(
        self,
        folder: Path,
        port: int,
        *,
        options: tuple[str, ...] = (),
        environment: dict[str, str] | None = None,
        **changes: Any,
    ) -> None:
        self.options = options
        self.environment = environment
        self.folder = folder
        self.config_path = folder / "edge.yaml"
        self.config: dict[str, Any] = {
            "device": "gate",
            "state_dir": str(folder / "state"),
            "mqtt": {"host": "127.0.0.1", "port": port, "retry_min_s": 0.1, "retry_max_s": 0.5},
            "cameras": {"front": {"source": str(CLIP), "loop": True}},
            "publish": {"stats_interval_s": 0.5},
            **changes,
        }
        self.write_config()
        self.log: list[str] = []
        self._logged = threading.Condition()
        self.process: subprocess.Popen[str] | None = None

    def write_config(self, text: str | None = None) -> None:
        self.config_path.write_text(yaml.safe_dump(self.config) if text is None else text)

    def start(self) -> None:
        words = (*self.options, "run", "--config", str(self.config_path))
        command = [sys.executable, "-m", "edge", *words]
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env=self.environment
        )
        self._reader = threading.Thread(target=self._read_log, args=(self.process,), daemon=True)
        self._reader.start()

    def _read_log(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        with process.stderr:
            for line in process.stderr:
                with self._logged:
                    self.log.append(line.rstrip())
                    self._logged.notify_all()

    def wait_for_log(self, text: str, timeout_s: float = 20) -> str:
        with self._logged:
            found = self._logged.wait_for(
                lambda: next((line for line in self.log if text in line), None), timeout_s
            )
        assert found is not None, f"the daemon did not log {text!r}: {self.log}"
        return found

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, timeout_s: float = 20) -> int:
        """Its exit code, once it ended and all it logged was read."""
        assert self.process is not None
        code = self.process.wait(timeout_s)
        self._reader.join(10)
        return code

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.wait()

    def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return self.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()
