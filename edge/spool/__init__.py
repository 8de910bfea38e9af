"""The bounded on-disk queue of events for the broker; `edge.spool.spool` states its guarantees."""

from edge.spool.spool import Spool, SpoolCounters

__all__ = ["Spool", "SpoolCounters"]
