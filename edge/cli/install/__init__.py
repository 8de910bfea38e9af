"""`edge install-service` and `edge uninstall-service`: the daemon as a systemd service."""

from edge.cli.install import place, remove

__all__ = ["place", "remove"]
