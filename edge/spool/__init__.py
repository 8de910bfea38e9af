"""Events that wait for the broker, on disk, bounded, over power cuts: `Spool`, and its promises."""

from edge.spool.spool import Spool, SpoolCounters

__all__ = ["Spool", "SpoolCounters"]
