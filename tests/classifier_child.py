"""Runs edge-tools commands one after another in one process: TensorFlow is imported once.

Standard input: a JSON list of argument lists. Standard output: a JSON list of [code, out, err].
"""

from __future__ import annotations

import contextlib
import io
import json
import sys

from tools import cli


def run(arguments: list[str]) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = cli.main(arguments)
        except SystemExit as error:
            code = int(error.code or 0)
    return code, out.getvalue(), err.getvalue()


if __name__ == "__main__":
    sys.stdout.write(json.dumps([run(arguments) for arguments in json.load(sys.stdin)]) + "\n")
