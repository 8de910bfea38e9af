"""Commands about the config file."""

from edge.cli.check import config, schema

__all__ = ["config", "schema"]
