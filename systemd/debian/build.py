"""Builds the Debian package: `make deb` or `python systemd/debian/build.py --arch arm64`.

Method: edge and all it needs are installed, as wheels of the target's architecture at the versions
of requirements.lock, into a virtual environment below /usr/lib/edge-camera whose interpreter is the
target's own; `edge install-service` places units and config; `dpkg-deb` packs it. Nothing is
downloaded on the board, and nothing of the target runs here, so a workstation builds for ARM.

Wheels and byte code fit one Python version: the package is for the Debian release that has the
Python which runs this (3.11: Debian 12, Raspberry Pi OS bookworm; 3.13: Debian 13).
Needs dpkg-deb and uv (`pip install uv`).
"""

from __future__ import annotations

import argparse
import compileall
import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from edge import __version__
from edge.cli import main as edge_command
from edge.errors import EXIT_OK

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
HOME = Path("usr/lib/edge-camera")
PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
EXTRAS = "web,demo,metrics,registry,otlp"
PLATFORMS = {"amd64": "x86_64-manylinux_2_35", "arm64": "aarch64-manylinux_2_35"}
CONFFILES = ("/etc/edge/edge.yaml", "/etc/edge/edge.example.yaml", "/etc/edge/environment")
COMMANDS = {"edge": "edge", "edge-tools": "tools"}  # command: package
LAUNCHER = """#!/{home}/bin/python
import sys

from {package}.__main__ import main

sys.exit(main())
"""


def build(arch: str, out_dir: Path) -> Path:
    """Build the package for one architecture and return its file."""
    out_dir.mkdir(parents=True, exist_ok=True)
    file = out_dir / f"edge-camera_{version()}_{arch}.deb"
    with tempfile.TemporaryDirectory(prefix="edge-deb-") as folder:
        stage = Path(folder)
        stage.chmod(0o755)
        _install_python(stage, arch)
        _install_commands(stage)
        _install_service(stage)
        _install_documents(stage)
        _write_control(stage, arch)
        _run("dpkg-deb", "--root-owner-group", "-Zzstd", "-z3", "--build", str(stage), str(file))
    return file


def version() -> str:
    """Return the package's version: edge's, and the Python it is for."""
    return f"{__version__}+{PYTHON.replace('python', 'py')}"


def _install_python(stage: Path, arch: str) -> None:
    """Make the virtual environment without running its interpreter."""
    home = stage / HOME
    packages = home / "lib" / PYTHON / "site-packages"
    with tempfile.TemporaryDirectory(prefix="edge-wheel-") as folder:
        _run("uv", "build", "--quiet", "--wheel", "--out-dir", folder, str(ROOT))
        (wheel,) = Path(folder).glob("*.whl")
        _run(
            *("uv", "pip", "install", "--quiet", "--target", str(packages)),
            *("--python-version", PYTHON.removeprefix("python")),
            *("--python-platform", PLATFORMS[arch], "--only-binary", ":all:"),
            *("--constraint", str(ROOT / "requirements.lock"), f"{wheel}[{EXTRAS}]"),
        )
    shutil.rmtree(packages / "bin", ignore_errors=True)  # they name this machine's Python
    for name in ("direct_url.json", ".lock"):  # paths of this machine; uv's own
        for file in packages.rglob(name):
            file.unlink()
    (home / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\n")
    _compile(packages)


def _compile(packages: Path) -> None:
    """Compile to byte code, as the service may not write any; valid whatever the files' times."""
    mode = compileall.py_compile.PycInvalidationMode.UNCHECKED_HASH
    for cache in packages.rglob("__pycache__"):
        shutil.rmtree(cache)
    compileall.compile_dir(
        packages, quiet=2, stripdir=str(packages.parents[4]), prependdir="/", invalidation_mode=mode
    )


def _install_commands(stage: Path) -> None:
    programs = stage / HOME / "bin"
    programs.mkdir()
    (programs / "python").symlink_to(f"/usr/bin/{PYTHON}")
    links = stage / "usr/bin"
    links.mkdir()
    for command, package in COMMANDS.items():
        program = programs / command
        program.write_text(LAUNCHER.format(home=HOME, package=package))
        program.chmod(0o755)
        (links / command).symlink_to(Path("/") / HOME / "bin" / command)


def _install_service(stage: Path) -> None:
    code = edge_command(
        [
            *("install-service", "--root", str(stage), "--program", "/usr/bin/edge"),
            *("--units-dir", "/usr/lib/systemd/system"),
        ]
    )
    if code != EXIT_OK:
        raise SystemExit(code)


def _install_documents(stage: Path) -> None:
    folder = stage / "usr/share/doc/edge-camera"
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "LICENSE", folder / "copyright")
    for name in ("README.md", "CHANGELOG.md", "SECURITY.md", "systemd/mosquitto-acl.example"):
        shutil.copy(ROOT / name, folder)


def _write_control(stage: Path, arch: str) -> None:
    control = stage / "DEBIAN"
    files = sorted(path for path in stage.rglob("*") if path.is_file() and not path.is_symlink())
    control.mkdir()
    fields = (
        (HERE / "control")
        .read_text()
        .format(
            version=version(),
            arch=arch,
            python=PYTHON.removeprefix("python"),
            next_python=f"{sys.version_info.major}.{sys.version_info.minor + 1}",
            size_kib=sum(path.stat().st_size for path in files) // 1024,
        )
    )
    (control / "control").write_text(fields)
    (control / "conffiles").write_text("".join(f"{path}\n" for path in CONFFILES))
    (control / "md5sums").write_text("".join(_md5_line(path, stage) for path in files))
    for script in ("postinst", "prerm", "postrm"):
        shutil.copy(HERE / script, control / script)
        (control / script).chmod(0o755)


def _md5_line(path: Path, stage: Path) -> str:
    """Return a line of DEBIAN/md5sums; dpkg knows no other hash there."""
    digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    return f"{digest}  {path.relative_to(stage)}\n"


def _run(*command: str) -> None:
    if shutil.which(command[0]) is None:
        raise SystemExit(f"{command[0]} is missing: apt install dpkg, pip install uv")
    subprocess.run(command, check=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--arch", action="append", choices=sorted(PLATFORMS), required=True)
    parser.add_argument("--output", type=Path, default=ROOT / "dist", metavar="DIR")
    args = parser.parse_args()
    for one in args.arch:
        print(build(one, args.output))  # noqa: T201 - a command
