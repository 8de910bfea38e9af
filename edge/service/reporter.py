"""Reports what this device is, and its state, to subscribers, page and service manager."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence

from edge import __version__, config_file, messages
from edge.capture import CaptureStatus
from edge.discovery import components_of, discovery_message, discovery_topic
from edge.health import Notifier, read_condition
from edge.messages import CameraState, Info, Message, Stats, Topics
from edge.publisher import Publisher
from edge.service import announced
from edge.service.counters import Counters
from edge.service.parts import Parts, model_infos
from edge.service.stats import Readings, StatsMaker, cameras_text
from edge.spool import Spool
from edge.web import View

LIVE_S = 2.0  # how old the stats of `edge status`, page and metrics may be


class Reporter:
    """The daemon's reports; used by the main loop alone."""

    def __init__(
        self,
        topics: Topics,
        publisher: Publisher,
        spool: Spool,
        view: View,
        notifier: Notifier,
    ) -> None:
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
        self._last_states: dict[str, CameraState] = {}
        self.is_hot = False  # whether the board was at the last reading

    def announce(self, parts: Parts) -> None:
        """Publish what this device is; the publisher repeats it on every connection."""
        config, labels = parts.config, parts.labels()
        info = Info(
            device=self._topics.device,
            version=__version__,
            boot_id=self._spool.boot_id,
            models=model_infos(parts.interpreters),
            cameras=tuple(config.cameras),
            labels=tuple({label: None for mine in labels.values() for label in mine}),
            budget_ms=config.budget.frame_ms,
            commands=config.commands.allow,
        )
        self._view.tell_info(info)
        topic = self._topics.of("info")
        self._publisher.publish(Message(topic, messages.encode(info), qos=1, retain=True))
        if config.mqtt.discovery:
            self._publisher.publish(self._discovery(parts))
        memory = config_file.state_dir(config) / announced.CAMERAS
        present = dict.fromkeys(info.cameras, "camera")
        for name in announced.gone(memory, self._topics.base, present):
            self._forget_camera(name, parts.interpreters["detector"].manifest.labels)

    def _discovery(self, parts: Parts) -> Message:
        """Return the message for Home Assistant, which also removes what was announced before."""
        config = parts.config
        prefix = config.mqtt.discovery_prefix
        commands = () if config.commands.key_file else config.commands.allow
        components = components_of(self._topics, parts.labels(), commands)
        gone = announced.gone(
            config_file.state_dir(config) / announced.COMPONENTS,
            discovery_topic(prefix, self._topics.device),
            {name: component["platform"] for name, component in components.items()},
        )
        return discovery_message(prefix, self._topics, __version__, components, gone)

    def tell_camera(self, name: str, status: CaptureStatus, *, is_paused: bool) -> None:
        """Publish a camera's state when it differs from the last one published."""
        state = CameraState(
            camera=name,
            state=status.state.value,
            reason=status.reason,
            paused=is_paused,
        )
        if state != self._last_states.get(name):
            self._last_states[name] = state
            topic = self._topics.camera(name, "state")
            self._publisher.publish(Message(topic, messages.encode(state), qos=1, retain=True))

    def _forget_camera(self, name: str, labels: Sequence[str]) -> None:
        """Remove a camera that is there no longer; what the broker retained of it, too."""
        self._last_states.pop(name, None)
        self._view.forget_camera(name)
        for part in ("state", "snapshot/frame", *(f"snapshot/{label}" for label in labels)):
            topic = self._topics.camera(name, part)
            self._publisher.publish(Message(topic, b"", qos=1, retain=True))

    def tell_stats(
        self,
        counters: Counters,
        statuses: Mapping[str, CaptureStatus],
        paused: Collection[str],
        interval_s: float,
    ) -> None:
        """Publish `stats` every `interval_s`; update page and service manager every LIVE_S."""
        now_s = time.monotonic()
        if now_s - self._live_s >= LIVE_S:
            self._live_s = now_s
            stats = self._stats(self._live_maker, counters, statuses, paused)
            self._view.tell_stats(stats)
            self._notifier.status(
                f"{cameras_text(statuses)}, {stats.frames_per_s:g} frames/s, "
                f"broker {self._publisher.state[0]}, {stats.spool.waiting} events waiting"
            )
        if now_s - self._published_s >= interval_s:
            self._published_s = now_s
            stats = self._stats(self._published_maker, counters, statuses, paused)
            self._publisher.publish(Message(self._topics.of("stats"), messages.encode(stats)))

    def _stats(
        self,
        maker: StatsMaker,
        counters: Counters,
        statuses: Mapping[str, CaptureStatus],
        paused: Collection[str],
    ) -> Stats:
        board = read_condition()
        self.is_hot = board.is_hot
        readings = Readings(
            capture=statuses,
            paused=paused,
            spool=self._spool.counters(),
            mqtt=self._publisher.counters(),
            board=board,
        )
        return maker.make(counters, readings, time.monotonic())
