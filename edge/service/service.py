"""The daemon: builds all parts, runs the loop, serves signals and commands, stops in order.

Start: config, models, warm-up, spool, broker connection, cameras. READY is sent when each camera's
first frame was processed, or its first attempt failed and is being retried: otherwise systemd would
kill a board whose camera is unplugged at every start.
Loop: take the frame whose turn it is, process it, hand its events to the spool, feed the watchdog.
Signals only set events: SIGTERM and SIGINT stop (a second one exits at once), SIGHUP reloads.
Reload: the new file is loaded and checked, and its models are built, before anything changes. A
change of a section that cannot be swapped while running is refused with `restart needed`.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from edge import __version__, config_file, logs, messages, model_update, signature
from edge.budget import timed
from edge.capture import Cameras, CaptureState, CaptureStatus, check_sources
from edge.config import CameraConfig, Config, LabelConfig
from edge.errors import EXIT_OK, ConfigError, EdgeError, brief
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
from edge.service.parts import Parts, build_parts, model_infos, shelves_of
from edge.service.permission import Permission
from edge.service.reporter import Reporter
from edge.service.signals import signals
from edge.service.snapshots import Snapshots
from edge.service.stats import cameras_text
from edge.service.stream import Stream
from edge.spool import Spool
from edge.status_socket import StatusSocket
from edge.values import OVER_BUDGET, Frame, FrameResult
from edge.web import View, WebServer

logger = logging.getLogger(__name__)

TAKE_S = 0.2  # longest wait for a frame before signals and commands are checked
SPOOL_NAME = "spool.sqlite"
MAX_NAME_CHARS = 80  # of an unknown one in an answer


class Service:
    """One run of the daemon."""

    def __init__(self, config_path: Path, config: Config, load: Callable[[], Config]) -> None:
        """Take the config file's path (for messages), its config, and the function to reload it."""
        self._path = config_path
        self._load = load
        self._config = config
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
        self._streams = {name: Stream(name, camera) for name, camera in config.cameras.items()}
        self._track_ids = itertools.count(1)  # of all cameras, so that none is used twice
        self._is_ready = False
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
            self._end_all_objects()
            self._cameras.close()  # before the last stats, so that they count every frame
            self._report(self._statuses(), stats_every_s=0)
        return EXIT_OK

    def _start(self, stack: ExitStack) -> None:
        config = self._config
        self._mqtt_log = stack.enter_context(logs.published(config.log.mqtt_level))
        trusted = signature.parse_all(config.models.trusted_keys)
        model_update.count_starts(shelves_of(config), trusted)  # a reload is no start
        self._parts = build_parts(config, self._track_ids)
        model_update.wait_for_frame(self._parts.pulled)
        stack.enter_context(WebServer(config.web, self._view))
        state_dir = config_file.state_dir(config)
        self._spool = stack.enter_context(
            Spool(state_dir / SPOOL_NAME, config.spool, boot_id=self._boot_id)
        )
        options.check(config.mqtt)
        check_sources(config.cameras)  # before subscribers see it online
        birth = Status(status="online", boot_id=self._boot_id, version=__version__)
        self._publisher = stack.enter_context(
            Publisher(config.mqtt, self._topics, self._spool, birth)
        )
        self._mqtt_log.send_to(self._publish_log)
        self._reporter = Reporter(
            self._topics, self._publisher, self._spool, self._view, self._notifier
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
        self._cameras = stack.enter_context(Cameras(config.cameras))
        logger.info("service.started device=%s boot_id=%s", self._topics.device, self._boot_id)

    def _answer_status(self) -> bytes:
        """Return the report for `edge status`; runs in the socket's thread."""
        view = self._view
        report = Report(health=view.health(), info=view.info, stats=view.stats)
        return messages.encode(report)

    def _publish_log(self, payload: bytes) -> None:
        self._publisher.publish(Message(self._topics.of("log"), payload), waits=True)

    def _loop(self) -> None:
        while not self._stop.is_set():
            self._serve_requests()
            frame = self._cameras.take(TAKE_S)
            if frame is not None:
                self._process(frame)
            elif self._cameras.is_over:
                logger.info("service.source_ended cameras=%s", ",".join(self._streams))
                return
            self._do_housekeeping()

    def _end_objects(self, stream: Stream) -> None:
        """Publish an `end` for every object that is followed on a camera: their ids end here."""
        if stream.newest is not None:
            result = self._parts.pipelines[stream.name].finish(stream.newest)
            self._counters.events += len(result.events)
            self._hand_over(result)

    def _end_all_objects(self) -> None:
        for stream in self._streams.values():
            self._end_objects(stream)

    def _process(self, frame: Frame) -> None:
        stream = self._streams[frame.camera]
        if stream.newest is not None and frame.size != stream.newest.size:
            self._end_objects(stream)  # their boxes are pixels of the old size
        stream.newest = frame
        is_paused = stream.is_paused
        if not is_paused:  # else no model runs
            self._parts.begin_frame()
        result = self._parts.pipelines[stream.name].process(frame, is_paused=is_paused)
        with timed(time.monotonic, "publish", result.stage_ms):
            self._hand_over(result)
            self._publish_detections(result)
        self._parts.governor.record("publish", result.stage_ms["publish"])
        latency_ms = 1000 * (time.monotonic() - frame.captured_mono_s)
        is_late = self._parts.governor.is_late(frame.captured_mono_s)
        if result.skipped is None:
            self._parts.confirm_models()
            self._cameras.tell_detected(stream.name)
        elif result.skipped in OVER_BUDGET:
            self._cameras.tell_too_old(stream.name)
        self._counters.add(result, latency_ms, is_late=is_late)
        self._view.tell_frame(result)
        if self._config.publish.snapshots:
            for message in self._snapshots.messages(result):
                self._publisher.publish(message)

    def _hand_over(self, result: FrameResult) -> None:
        """Give the frame's events to the spool."""
        topic = self._topics.camera(result.frame.camera, "events")
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
            topic = self._topics.camera(result.frame.camera, "detections")
            payload = messages.encode(messages.detections_body(result))
            self._publisher.publish(Message(topic, payload))

    def _do_housekeeping(self) -> None:
        """Do the work that ends each turn of the loop: readiness, watchdog, objects, reports."""
        statuses = self._statuses()
        streams = [(stream, statuses[stream.name]) for stream in self._streams.values()]
        if not self._is_ready and all(stream.is_ready(status) for stream, status in streams):
            self._is_ready = True
            self._notifier.ready(cameras_text(statuses))
        if all(stream.is_alive(status) for stream, status in streams):
            self._notifier.progress()
            self._view.tell_progress()
        for stream, status in streams:
            if status.state in {CaptureState.LOST, CaptureState.ENDED}:
                self._end_unseen(stream)
            self._view.tell_camera(stream.name, status.state.value, is_paused=stream.is_paused)
        self._report(statuses, self._config.publish.stats_interval_s)

    def _end_unseen(self, stream: Stream) -> None:
        """End a camera's objects when it has been away for longer than they may be out of sight."""
        if stream.away_s > self._config.tracker.max_lost_s:
            self._end_objects(stream)
            stream.newest = None

    def _statuses(self) -> dict[str, CaptureStatus]:
        return {name: self._cameras.status(name) for name in self._streams}

    def _report(self, statuses: dict[str, CaptureStatus], stats_every_s: float) -> None:
        paused = {name for name, stream in self._streams.items() if stream.is_paused}
        for name, status in statuses.items():
            self._reporter.tell_camera(name, status, is_paused=name in paused)
        self._reporter.tell_stats(self._counters, statuses, paused, stats_every_s)
        self._parts.governor.is_hot = self._reporter.is_hot

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
        for stream in self._chosen(command.camera):
            stream.paused_until_s = time.monotonic() + (command.for_s or float("inf"))
            self._end_objects(stream)  # while paused, nothing follows them
        return {"paused": True, "for_s": command.for_s}

    def _resume(self, command: Resume) -> dict[str, Any]:
        for stream in self._chosen(command.camera):
            stream.paused_until_s = 0.0
        return {"paused": False}

    def _set_thresholds(self, command: SetThresholds) -> dict[str, Any]:
        known = self._parts.interpreters["detector"].manifest.labels
        for label in command.labels:
            if label not in known:
                raise _unknown("class", label, known)
        old = self._parts.thresholds
        changed = {
            label: msgspec.structs.replace(old.labels.get(label, LabelConfig()), min_score=score)
            for label, score in command.labels.items()
        }
        score = old.min_score if command.min_score is None else command.min_score
        new = Thresholds(score, {**old.labels, **changed})
        self._parts.set_thresholds(new)
        return {"min_score": score, "labels": {label: new.of(label) for label in known}}

    def _snapshot(self, command: Snapshot) -> dict[str, Any]:
        stream, *others = self._chosen(command.camera)
        if others:
            raise EdgeError(f"name a camera: {', '.join(self._streams)}")
        state = self._cameras.status(stream.name).state
        if stream.newest is None or state is not CaptureState.LIVE:
            raise EdgeError(f"camera {stream.name} is {state}; try later")
        message = self._snapshots.frame_message(stream.name, stream.newest.bgr)
        self._publisher.publish(message)
        captured = messages.utc_text(stream.newest.captured_utc_s)
        size = len(message.payload)
        return {"topic": message.topic, "bytes": size, "captured_utc": captured}

    def _chosen(self, name: str | None) -> list[Stream]:
        """Return the camera that a command names, all when it names none."""
        if name is None:
            return [*self._streams.values()]
        if name not in self._streams:
            raise _unknown("camera", name, self._streams)
        return [self._streams[name]]

    def _reload_by_signal(self) -> None:
        self._notifier.reloading()
        try:
            self._reload_now(Reload())
        except EdgeError as error:
            logger.error("service.reload_refused error=%s", error)  # noqa: TRY400 - one line
        self._notifier.ready(cameras_text(self._statuses()))

    def _reload_now(self, _command: Reload) -> dict[str, Any]:
        """Switch to the config file's current content, or raise and change nothing."""
        try:
            config, parts, handlers = self._prepare()
        except OSError as error:  # a path that cannot be inspected
            raise ConfigError(f"{self._path}: {error}; correct the path") from None
        self._replace_cameras(config.cameras)
        for name in parts.pipelines.keys() & self._parts.pipelines.keys():
            parts.pipelines[name].continue_from(self._parts.pipelines[name])
        self._config, self._parts = config, parts
        before = logs.install(handlers, config.log.level)
        threading.Thread(target=logs.close, args=(before,), name="log-close").start()
        self._mqtt_log.choose(config.log.mqtt_level)
        self._reporter.announce(parts)
        logger.info("service.reloaded path=%s", self._path)
        # A version on trial that cannot be used was rolled back: the caller must see what runs.
        return {"reloaded": True, "models": model_infos(parts.interpreters)}

    def _replace_cameras(self, configs: Mapping[str, CameraConfig]) -> None:
        """Close the cameras that are gone or read otherwise, and open those that are not there."""
        old = self._streams
        opened = {
            name: config
            for name, config in configs.items()
            if name not in old or not config.is_read_like(old[name].config)
        }
        closed = [name for name in old if name in opened or name not in configs]
        for name in closed:
            self._end_objects(old[name])
        last = self._cameras.replace(closed, opened)
        new = {name: Stream(name, config) for name, config in opened.items()}
        for name in new.keys() & old.keys():
            new[name].paused_until_s = old[name].paused_until_s
        self._streams = {name: new.get(name) or old[name] for name in configs}
        for name in old.keys() - configs.keys():
            self._counters.forget(name, last[name].dropped)

    def _prepare(self) -> tuple[Config, Parts, list[logging.Handler]]:
        """Return what a reload swaps; log handlers come last, so no failure leaks them."""
        config = self._load()
        refuse_fixed_changes(self._path, self._config, config)
        check_sources(config.cameras)
        parts = build_parts(config, self._track_ids)
        return config, parts, logs.make_handlers(config.log, device=self._topics.device)


def _unknown(kind: str, name: str, known: Iterable[str]) -> EdgeError:
    """Return the error for a name in a command that is none of the known ones."""
    return EdgeError(f"no {kind} {brief(repr(name), MAX_NAME_CHARS)}; known: {', '.join(known)}")
