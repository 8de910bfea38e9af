"""Prometheus metrics of the newest `stats`."""

from edge.metrics.families import Collector
from edge.metrics.metrics import Metrics, check_installed

__all__ = ["Collector", "Metrics", "check_installed"]
