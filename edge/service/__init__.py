"""The daemon: `Service` builds all parts, runs the loop and stops them in order."""

from edge.service.service import Service

__all__ = ["Service"]
