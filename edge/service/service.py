"""The daemon: builds all parts, runs the loop, serves signals and commands, stops in order.

Start: config, models, warm-up, spool, broker connection, camera. READY is sent when the first frame
was processed, or when the camera's first attempt failed and is being retried: otherwise systemd
would kill a board whose camera is unplugged at every start.
Loop: take the newest frame, process it, hand its events to the spool, feed the watchdog.
Signals only set events: SIGTERM and SIGINT stop (a second one exits at once), SIGHUP reloads.
Reload: the new file is loaded and checked, and its models are built, before anything changes. A
change of a section that cannot be swapped while running is refused with `restart needed`.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from edge import __version__, config_file, logs, messages, model_update, signature
from edge.budget import timed
from edge.capture import Camera, CaptureState, CaptureStatus, check_source, longest_quiet_s
from edge.config import Config, LabelConfig
from edge.errors import EXIT_OK, ConfigError, EdgeError
from edge.health import Notifier, is_clock_synchronized
from edge.messages import (
    Message,
    Pause,
    Reload,
    Report,
    Resume,
    SetThresholds,
    Snapshot,
    Status,
    Topics,
)
from edge.metrics import Metrics
from edge.pipeline import Thresholds
from edge.publisher import Publisher, options
from edge.service.commands import CommandDesk
from edge.service.counters import Counters
from edge.service.fixed import refuse_fixed_changes
from edge.service.parts import Parts, build_parts, model_infos, only_camera, shelves_of
from edge.service.permission import Permission
from edge.service.reporter import Reporter
from edge.service.signals import signals
from edge.service.snapshots import Snapshots
from edge.spool import Spool
from edge.status_socket import StatusSocket
from edge.values import Frame, FrameResult
from edge.web import View, WebServer

logger = logging.getLogger(__name__)

TAKE_S = 0.2  # longest wait for a frame before signals and commands are checked
SPOOL_NAME = "spool.sqlite"


class Service:
    """One run of the daemon on one camera."""

    def __init__(self, config_path: Path, config: Config, load: Callable[[], Config]) -> None:
        """Take the config file's path (for messages), its config, and the function to reload it."""
        self._path = config_path
        self._load = load
        self._config = config
        self._camera_name = only_camera(config)
        self._topics = Topics(config.mqtt.prefix, config_file.device_name(config))
        self._boot_id = uuid.uuid4().hex
        self._stop = threading.Event()
        self._reload = threading.Event()
        self._notifier = Notifier()
        self._counters = Counters()
        self._snapshots = Snapshots(self._topics)
        self._desk = CommandDesk(
            Permission(config.commands, self._topics, config_file.state_dir(config)),
            pause=self._pause,
            resume=self._resume,
            set_thresholds=self._set_thresholds,
            snapshot=self._snapshot,
            reload=self._reload_now,
        )
        self._paused_until_s = 0.0
        self._is_ready = False
        self._newest: Frame | None = None
        self._view = View()

    def run(self) -> int:
        """Run until a signal or a file's end; return the exit code.

        Raises EdgeError when config, model, source, spool or page do not allow a start.
        """
        with signals(self._stop, self._reload), ExitStack() as stack:
            stack.callback(self._notifier.close)
            self._start(stack)
            self._loop()
            self._notifier.stopping()
            self._end_objects()
            self._camera_stack.close()  # before the last stats, so that they count every frame
            self._report(stats_every_s=0)
        return EXIT_OK

    def _start(self, stack: ExitStack) -> None:
        config = self._config
        self._mqtt_log = stack.enter_context(logs.published(config.log.mqtt_level))
        trusted = signature.parse_all(config.models.trusted_keys)
        model_update.count_starts(shelves_of(config), trusted)  # a reload is no start
        self._parts = build_parts(config, self._camera_name)
        model_update.wait_for_frame(self._parts.pulled)
        stack.enter_context(WebServer(config.web, self._view))
        state_dir = config_file.state_dir(config)
        self._spool = stack.enter_context(
            Spool(state_dir / SPOOL_NAME, config.spool, boot_id=self._boot_id)
        )
        options.check(config.mqtt)
        check_source(config.cameras[self._camera_name])  # before subscribers see it online
        birth = Status(status="online", boot_id=self._boot_id, version=__version__)
        self._publisher = stack.enter_context(
            Publisher(config.mqtt, self._topics, self._spool, birth)
        )
        self._mqtt_log.send_to(self._publish_log)
        self._reporter = Reporter(
            self._camera_name,
            self._topics,
            self._publisher,
            self._spool,
            self._view,
            self._notifier,
        )
        self._reporter.announce(self._parts)
        stack.enter_context(StatusSocket(state_dir, self._answer_status))
        stack.enter_context(
            Metrics(
                config.metrics,
                lambda: (self._view.info, self._view.stats),
                lambda: self._config.publish.stats_interval_s,
            )
        )
        self._camera_stack = stack.enter_context(ExitStack())
        self._open_camera(config)
        logger.info("service.started device=%s boot_id=%s", self._topics.device, self._boot_id)

    def _answer_status(self) -> bytes:
        """Return the report for `edge status`; runs in the socket's thread."""
        view = self._view
        report = Report(health=view.health(), info=view.info, stats=view.stats)
        return messages.encode(report)

    def _publish_log(self, payload: bytes) -> None:
        self._publisher.publish(Message(self._topics.of("log"), payload), waits=True)

    def _open_camera(self, config: Config, before: CaptureStatus | None = None) -> None:
        camera = Camera(self._camera_name, config.cameras[self._camera_name], before=before)
        self._camera = self._camera_stack.enter_context(camera)

    def _loop(self) -> None:
        while not self._stop.is_set():
            self._serve_requests()
            frame = self._camera.take(TAKE_S)
            if frame is not None:
                self._process(frame)
            elif self._camera.is_over:
                logger.info("service.source_ended camera=%s", self._camera_name)
                return
            self._do_housekeeping(frame)

    def _end_objects(self) -> None:
        """Publish an `end` for every followed object: their ids end here."""
        if self._newest is not None:
            result = self._parts.pipeline.finish(self._newest)
            self._counters.events += len(result.events)
            self._hand_over(result)

    def _end_unseen(self) -> None:
        """End all objects when no frame has come for longer than an object may be out of sight."""
        if self._newest is not None:
            away_s = time.monotonic() - self._newest.captured_mono_s
            if away_s > self._config.tracker.max_lost_s:
                self._end_objects()

    def _process(self, frame: Frame) -> None:
        if self._newest is not None and frame.size != self._newest.size:
            self._end_objects()  # their boxes are pixels of the old size
        self._newest = frame
        is_paused = self._is_paused
        if not is_paused:  # else no model runs
            self._parts.begin_frame()
        result = self._parts.pipeline.process(frame, is_paused=is_paused)
        with timed(time.monotonic, "publish", result.stage_ms):
            self._hand_over(result)
            self._publish_detections(result)
        self._parts.governor.record("publish", result.stage_ms["publish"])
        latency_ms = 1000 * (time.monotonic() - frame.captured_mono_s)
        is_late = self._parts.governor.is_late(frame.captured_mono_s)
        if result.skipped is None:
            self._parts.confirm_models()
        self._counters.add(result, latency_ms, is_late=is_late)
        self._view.tell_frame(result)
        if self._config.publish.snapshots:
            for message in self._snapshots.messages(result):
                self._publisher.publish(message)

    def _hand_over(self, result: FrameResult) -> None:
        """Give the frame's events to the spool."""
        topic = self._topics.camera(self._camera_name, "events")
        for event in result.events:
            body = messages.event_body(
                event,
                result,
                boot_id=self._boot_id,
                now_s=time.monotonic(),
                clock_synced=is_clock_synchronized(),
            )
            encoded = messages.encode(body)
            self._publisher.publish_event(topic, encoded)
            self._view.tell_event(encoded)

    def _publish_detections(self, result: FrameResult) -> None:
        if self._config.publish.detections and result.skipped is None:
            topic = self._topics.camera(self._camera_name, "detections")
            payload = messages.encode(messages.detections_body(result))
            self._publisher.publish(Message(topic, payload))

    def _do_housekeeping(self, frame: Frame | None) -> None:
        """Do the work that ends each turn of the loop: readiness, watchdog, objects, reports."""
        status = self._camera.status
        if not self._is_ready and (frame is not None or status.state is CaptureState.LOST):
            self._is_ready = True
            self._notifier.ready(f"camera {status.state}")
        is_alive = status.state is not CaptureState.LIVE or not self._is_overdue()
        if is_alive:
            self._notifier.progress()
        if frame is None and status.state is CaptureState.LOST:
            self._end_unseen()
        self._view.tell_camera(status.state.value, is_alive=is_alive, is_paused=self._is_paused)
        self._report(self._config.publish.stats_interval_s)

    def _report(self, stats_every_s: float) -> None:
        status, is_paused = self._camera.status, self._is_paused
        self._reporter.tell_camera(status, is_paused=is_paused)
        self._reporter.tell_stats(self._counters, status, stats_every_s, is_paused=is_paused)
        self._parts.governor.is_hot = self._reporter.is_hot

    @property
    def _is_paused(self) -> bool:
        return time.monotonic() < self._paused_until_s

    def _is_overdue(self) -> bool:
        """Return whether a live camera has delivered no frame for longer than capture allows."""
        if self._newest is None:
            return False
        quiet_s = time.monotonic() - self._newest.captured_mono_s
        return quiet_s > longest_quiet_s(self._config.cameras[self._camera_name])

    # Commands and reload: all run in the main loop, between frames.

    def _serve_requests(self) -> None:
        if self._reload.is_set():
            self._reload.clear()
            self._reload_by_signal()
        # One per turn: a burst of commands must not delay frames and the watchdog.
        command = self._publisher.take_command()
        if command is not None:
            response = self._desk.answer(command.name, command.payload)
            self._publisher.respond(command, response)

    def _pause(self, command: Pause) -> dict[str, Any]:
        self._check_camera(command.camera)
        self._paused_until_s = time.monotonic() + (command.for_s or float("inf"))
        self._end_objects()  # while paused, nothing follows them
        return {"paused": True, "for_s": command.for_s}

    def _resume(self, command: Resume) -> dict[str, Any]:
        self._check_camera(command.camera)
        self._paused_until_s = 0.0
        return {"paused": False}

    def _set_thresholds(self, command: SetThresholds) -> dict[str, Any]:
        known = self._parts.interpreters["detector"].manifest.labels
        for label in command.labels:
            if label not in known:
                raise EdgeError(f"no class {label!r}; known: {', '.join(known)}")
        old = self._parts.pipeline.thresholds
        changed = {
            label: msgspec.structs.replace(old.labels.get(label, LabelConfig()), min_score=score)
            for label, score in command.labels.items()
        }
        score = old.min_score if command.min_score is None else command.min_score
        new = Thresholds(score, {**old.labels, **changed})
        self._parts.set_thresholds(new)
        return {"min_score": score, "labels": {label: new.of(label) for label in known}}

    def _snapshot(self, command: Snapshot) -> dict[str, Any]:
        self._check_camera(command.camera)
        state = self._camera.status.state
        if self._newest is None or state is not CaptureState.LIVE:
            raise EdgeError(f"camera {self._camera_name} is {state}; try later")
        message = self._snapshots.frame_message(self._camera_name, self._newest.bgr)
        self._publisher.publish(message)
        captured = messages.utc_text(self._newest.captured_utc_s)
        size = len(message.payload)
        return {"topic": message.topic, "bytes": size, "captured_utc": captured}

    def _check_camera(self, name: str | None) -> None:
        if name not in (None, self._camera_name):
            raise EdgeError(f"no camera {name!r}; known: {self._camera_name}")

    def _reload_by_signal(self) -> None:
        self._notifier.reloading()
        try:
            self._reload_now(Reload())
        except EdgeError as error:
            logger.error("service.reload_refused error=%s", error)  # noqa: TRY400 - one line
        self._notifier.ready(f"camera {self._camera.status.state}")

    def _reload_now(self, _command: Reload) -> dict[str, Any]:
        """Switch to the config file's current content, or raise and change nothing."""
        try:
            config, parts, handlers = self._prepare()
        except OSError as error:  # a path that cannot be inspected
            raise ConfigError(f"{self._path}: {error}; correct the path") from None
        self._end_objects()
        parts.pipeline.continue_ids_of(self._parts.pipeline)
        if config.cameras != self._config.cameras:
            self._camera_stack.close()
            self._open_camera(config, self._camera.status)
            self._newest = None
        self._config, self._parts = config, parts
        before = logs.install(handlers, config.log.level)
        threading.Thread(target=logs.close, args=(before,), name="log-close").start()
        self._mqtt_log.choose(config.log.mqtt_level)
        self._reporter.announce(parts)
        logger.info("service.reloaded path=%s", self._path)
        # A version on trial that cannot be used was rolled back: the caller must see what runs.
        return {"reloaded": True, "models": model_infos(parts.interpreters)}

    def _prepare(self) -> tuple[Config, Parts, list[logging.Handler]]:
        """Return what a reload swaps; log handlers come last, so no failure leaks them."""
        config = self._load()
        refuse_fixed_changes(self._path, self._config, config)
        check_source(config.cameras[self._camera_name])
        parts = build_parts(config, self._camera_name)
        return config, parts, logs.make_handlers(config.log, device=self._topics.device)
