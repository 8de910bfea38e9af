"""`edge config-schema`: the JSON Schema of the config file, for editors."""

from __future__ import annotations

import argparse
import json

from edge import config_file
from edge.errors import EXIT_OK

EXAMPLES = """example:
  edge config-schema > edge.schema.json
  # first line of edge.yaml, for the YAML language server:
  # yaml-language-server: $schema=edge.schema.json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare no arguments."""


def run(_args: argparse.Namespace) -> int:
    """Print the schema."""
    print(json.dumps(config_file.json_schema(), indent=2))
    return EXIT_OK
