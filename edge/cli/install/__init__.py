"""`edge install-service` and `edge uninstall-service`: the daemon as a systemd service."""
