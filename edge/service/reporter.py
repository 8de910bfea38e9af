"""Reports what this device is, and its state, to subscribers, page and service manager."""

from __future__ import annotations

import time

from edge import __version__, config_file, messages
from edge.capture import CaptureStatus
from edge.discovery import components_of, discovery_message, discovery_topic
from edge.health import Notifier, read_condition
from edge.messages import CameraState, Info, Message, Stats, Topics
from edge.publisher import Publisher
from edge.service import announced
from edge.service.counters import Counters
from edge.service.parts import Parts, model_infos
from edge.service.stats import Readings, StatsMaker
from edge.spool import Spool
from edge.web import View

LIVE_S = 2.0  # how old the stats of `edge status`, page and metrics may be


class Reporter:
    """The reports of one camera's daemon; used by the main loop alone."""

    def __init__(
        self,
        camera: str,
        topics: Topics,
        publisher: Publisher,
        spool: Spool,
        view: View,
        notifier: Notifier,
    ) -> None:
        self._camera = camera
        self._topics = topics
        self._publisher = publisher
        self._spool = spool
        self._view = view
        self._notifier = notifier
        started_s = time.monotonic()
        # Two, since a rate is that since the maker's last stats.
        self._published_maker = StatsMaker(spool.boot_id, started_s)
        self._live_maker = StatsMaker(spool.boot_id, started_s)
        self._published_s = self._live_s = float("-inf")
        self._last_state: CameraState | None = None
        self.is_hot = False  # whether the board was at the last reading

    def announce(self, parts: Parts) -> None:
        """Publish what this device is; the publisher repeats it on every connection."""
        config = parts.config
        info = Info(
            device=self._topics.device,
            version=__version__,
            boot_id=self._spool.boot_id,
            models=model_infos(parts.interpreters),
            cameras=(self._camera,),
            labels=parts.labels(),
            budget_ms=config.budget.frame_ms,
            commands=config.commands.allow,
        )
        self._view.tell_info(info)
        topic = self._topics.of("info")
        self._publisher.publish(Message(topic, messages.encode(info), qos=1, retain=True))
        if config.mqtt.discovery:
            self._publisher.publish(self._discovery(parts))

    def _discovery(self, parts: Parts) -> Message:
        """Return the message for Home Assistant, which also removes what was announced before."""
        config = parts.config
        prefix = config.mqtt.discovery_prefix
        commands = () if config.commands.key_file else config.commands.allow
        components = components_of(self._topics, [self._camera], parts.labels(), commands)
        gone = announced.gone(
            config_file.state_dir(config),
            discovery_topic(prefix, self._topics.device),
            {name: component["platform"] for name, component in components.items()},
        )
        return discovery_message(prefix, self._topics, __version__, components, gone)

    def tell_camera(self, status: CaptureStatus, *, is_paused: bool) -> None:
        """Publish the camera's state when it differs from the last one published."""
        state = CameraState(
            camera=self._camera,
            state=status.state.value,
            reason=status.reason,
            paused=is_paused,
        )
        if state != self._last_state:
            self._last_state = state
            topic = self._topics.camera(self._camera, "state")
            self._publisher.publish(Message(topic, messages.encode(state), qos=1, retain=True))

    def tell_stats(
        self, counters: Counters, status: CaptureStatus, interval_s: float, *, is_paused: bool
    ) -> None:
        """Publish `stats` every `interval_s`; update page and service manager every LIVE_S."""
        now_s = time.monotonic()
        if now_s - self._live_s >= LIVE_S:
            self._live_s = now_s
            stats = self._stats(self._live_maker, counters, status, is_paused=is_paused)
            self._view.tell_stats(stats)
            self._notifier.status(
                f"camera {status.state}, {stats.frames_per_s:g} frames/s, "
                f"broker {self._publisher.state[0]}, {stats.spool.waiting} events waiting"
            )
        if now_s - self._published_s >= interval_s:
            self._published_s = now_s
            stats = self._stats(self._published_maker, counters, status, is_paused=is_paused)
            self._publisher.publish(Message(self._topics.of("stats"), messages.encode(stats)))

    def _stats(
        self, maker: StatsMaker, counters: Counters, status: CaptureStatus, *, is_paused: bool
    ) -> Stats:
        board = read_condition()
        self.is_hot = board.is_hot
        readings = Readings(
            camera=self._camera,
            capture=status,
            is_paused=is_paused,
            spool=self._spool.counters(),
            mqtt=self._publisher.counters(),
            board=board,
        )
        return maker.make(counters, readings, time.monotonic())
