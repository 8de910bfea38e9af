"""The bounded on-disk queue of events that wait for the broker; `Spool` says what it promises."""

from edge.spool.spool import Spool, SpoolCounters

__all__ = ["Spool", "SpoolCounters"]
