"""Installs the systemd units, a first config and their support files on a board; removes them.

Method: first a plan is made, a list of steps with a line of text each; then the steps run. So a dry
run prints exactly what would be done. Every step compares before it acts: files that are already
correct stay untouched, and a config file is never overwritten.
Under a root other than `/` (an image, a package's staging folder) systemd is not called; in an
image the daemon is enabled by the link that systemd would make.

`edge@.service` is derived from `edge.service` and runs further daemons: its instance `door`
reads /etc/edge/door.yaml and keeps its state in /var/lib/edge-door. The units of a Raspberry Pi's
camera module are placed, too, but not enabled.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edge import durable, lookup
from edge.config_file import SERVICE_CONFIGS
from edge.errors import EXIT_UNAVAILABLE, EdgeError

UNIT = "edge.service"
TEMPLATE = "edge@.service"
MODULE_SOCKET = "edge-rpicam.socket"
MODULE_UNITS = (MODULE_SOCKET, "edge-rpicam@.service")
WANTED_BY = "multi-user.target.wants"
ADMIN_UNITS = Path("/etc/systemd/system")
PACKAGE_UNITS = Path("/usr/lib/systemd/system")
CONFIG = "edge.yaml"
EXAMPLE = "edge.example.yaml"
ENVIRONMENT = "environment"
# Source file and target folder for systemd-sysusers and systemd-tmpfiles; installed as edge.conf.
MADE_BY = {"sysusers.conf": "sysusers.d", "tmpfiles.conf": "tmpfiles.d"}
DEFAULT_PROGRAM = "/opt/edge/bin/edge"  # the path in the shipped unit
# A service with DynamicUser keeps its state below private; the plain name is a link to it.
STATE_DIRS = ("var/lib/private", "var/lib")

_PACKAGE = Path(__file__).resolve().parent
# Inside an installed wheel the units lie in the package; in a checkout beside it.
_SOURCES = (_PACKAGE / "systemd", _PACKAGE.parent / "systemd")
_PLAIN_PATH = re.compile(r"/[\w./@+-]+")
# ProtectHome and PrivateTmp replace these with empty folders for the service.
_HIDDEN_FROM_SERVICE = ("/home", "/root", "/tmp", "/var/tmp", "/run/user")  # noqa: S108


class InstallError(EdgeError):
    """The service cannot be installed or removed here."""

    exit_code = EXIT_UNAVAILABLE


@dataclass(frozen=True)
class Step:
    """One thing to do: `text` says what, `act` does it (None: nothing to do)."""

    text: str
    act: Callable[[], object] | None = None


@dataclass(frozen=True)
class Place:
    """Where to install: the root directory, and the folder of units below it."""

    root: Path = Path("/")
    units: Path = ADMIN_UNITS

    def made_by(self) -> dict[str, Path]:
        """Return the target of each source in MADE_BY: beside the units, in /etc or /usr/lib."""
        return {
            name: self.path(self.units.parents[1] / to / "edge.conf")
            for name, to in MADE_BY.items()
        }

    def path(self, absolute: Path) -> Path:
        """Return an absolute path as it lies below the root."""
        return self.root / absolute.relative_to("/")

    @property
    def is_running_system(self) -> bool:
        """Return whether this is the machine's own root, so that systemd has to be called."""
        return lookup.real(self.root) == Path("/")


@contextmanager
def _inspecting() -> Iterator[None]:
    """Turn an OSError of an inspection into an InstallError."""
    try:
        yield
    except OSError as error:
        raise InstallError(
            f"{error.filename}: {error.strerror}; run it as root (sudo), or move that away"
        ) from None


@_inspecting()
def install_steps(place: Place, program: Path, *, is_started: bool = True) -> list[Step]:
    """Return the steps that install the daemon as a service, in order.

    program: absolute path of the `edge` command on the board.
    is_started: enable it, and on a running system start it.
    Raises InstallError when there is no systemd, the service could not run the program, or a link
    leads out of the image.
    """
    _check_systemd(place)
    _check_package(place)
    _check_links(place)
    unit = (_source() / UNIT).read_text().replace(DEFAULT_PROGRAM, _program_path(program, place))
    units = place.path(place.units)
    config = place.path(SERVICE_CONFIGS)
    placed = [_write(units / UNIT, unit), _write(units / TEMPLATE, template(unit))]
    placed += [_write(units / name, (_source() / name).read_text()) for name in MODULE_UNITS]
    steps = [
        *placed,
        _write(config / EXAMPLE, (_source() / EXAMPLE).read_text()),
        _write(config / CONFIG, (_source() / CONFIG).read_text(), is_kept=True),
        _write(config / ENVIRONMENT, (_source() / ENVIRONMENT).read_text(), is_kept=True),
    ]
    final = [_write(to, (_source() / name).read_text()) for name, to in place.made_by().items()]
    if place.is_running_system:
        if any(step.act for step in final):
            final += [_command("systemd-sysusers", "edge.conf")]
            final += [_command("systemd-tmpfiles", "--create", "edge.conf")]
        is_changed = any(step.act for step in placed)
        final += _start_steps(is_changed=is_changed, is_started=is_started)
    elif is_started and place.units == ADMIN_UNITS:
        final.append(_link(units / WANTED_BY / UNIT, ADMIN_UNITS / UNIT))
    return steps + final


@_inspecting()
def uninstall_steps(place: Place, *, is_purged: bool = False) -> list[Step]:
    """Return the steps that remove the service, in order.

    is_purged: also remove config, own drop-ins and state, which are kept otherwise.
    Raises InstallError when there is no systemd, a Debian package owns the service, or a link leads
    out of the image.
    """
    _check_systemd(place)
    _check_package(place)
    _check_links(place)
    units = place.path(place.units)
    steps = [_remove(units / name) for name in (UNIT, TEMPLATE, *MODULE_UNITS)]
    steps += [_remove(link) for link in _enabled(units)]
    steps += [_remove(path) for path in place.made_by().values()]
    if place.is_running_system:
        names = [name for name in (UNIT, MODULE_SOCKET) if (units / name).exists()]
        stop = [_systemctl("disable", "--now", name) for name in names]
        if names:
            stop.append(_systemctl("stop", "edge@*.service", "edge-rpicam@*.service"))
        steps = [*stop, *steps, _systemctl("daemon-reload")]
    if not is_purged:
        return steps + [_keep(path) for path in _local_paths(place)]
    steps += [_remove(path) for path in _local_paths(place)]
    return steps + [Step(f"keep {path}: of no known instance") for path in _strangers(place)]


def template(unit: str) -> str:
    """Return the text of `edge@.service`, derived from that of `edge.service`."""
    changes = {
        "Description=Camera detection over MQTT (edge)": (
            "Description=Camera detection over MQTT (edge, %i)"
        ),
        f"{SERVICE_CONFIGS}/{CONFIG}": f"{SERVICE_CONFIGS}/%i.yaml",
        "StateDirectory=edge\n": "StateDirectory=edge-%i\n",
        "RuntimeDirectory=edge\n": "RuntimeDirectory=edge-%i\n",
        "/run/credentials/edge.service/": "/run/credentials/edge@door.service/",
    }
    for old, new in changes.items():
        unit = unit.replace(old, new)
    return unit


def run(steps: list[Step], *, is_dry: bool) -> Iterator[Step]:
    """Run the steps and yield each when it is done; a dry run only yields them.

    Raises InstallError when the system refuses a step.
    """
    for step in steps:
        if step.act is not None and not is_dry:
            try:
                step.act()
            except OSError as error:
                reason = error.strerror or str(error)
                raise InstallError(f"{step.text}: {reason}; run it as root (sudo)") from None
        yield step


def _start_steps(*, is_changed: bool, is_started: bool) -> list[Step]:
    steps = [_systemctl("daemon-reload")] if is_changed else []
    if is_started:
        steps.append(_systemctl("enable", "--now", UNIT))
        if is_changed:  # before `--now`: a daemon that it has just started needs no restart
            steps.insert(1, _systemctl("try-restart", UNIT))
    return steps


def _source() -> Path:
    for folder in _SOURCES:
        if (folder / UNIT).is_file():
            return folder
    raise InstallError("the unit files are missing; install edge-camera again")


def _program_path(program: Path, place: Place) -> str:
    """Return the program's path for the unit; refuse one that the service could not run."""
    text = str(program)
    if not _PLAIN_PATH.fullmatch(text):
        raise InstallError(f"program {text!r}: name an absolute path of letters, digits and ./@+-_")
    if not place.is_running_system:
        return text
    if not lookup.is_file(program):
        raise InstallError(f"program {text}: no such file; name the edge command: --program FILE")
    for path in (text, str(_PACKAGE)):
        hidden = next((top for top in _HIDDEN_FROM_SERVICE if path.startswith(f"{top}/")), None)
        if hidden is not None:
            raise InstallError(
                f"{path}: the service cannot see {hidden}; install edge in /opt/edge"
            )
    for needed in (lookup.real(program), _PACKAGE):
        _check_open(needed, program)
    return text


def _check_open(path: Path, program: Path) -> None:
    """Refuse what other users may not read, as a umask of 077 makes it: the service is one."""
    for one in (path, *path.parents):
        needed = 0o005 if one == path else 0o001
        if one.exists() and one.stat().st_mode & needed != needed:
            fix = f"chmod -R go+rX {program.parents[1]}"
            raise InstallError(f"{one}: other users may not read it, nor may the service; {fix}")


def _check_systemd(place: Place) -> None:
    if not place.is_running_system:
        if not lookup.is_folder(place.root):
            raise InstallError(f"root {place.root}: no such folder; make it")
    elif not Path("/run/systemd/system").is_dir() or shutil.which("systemctl") is None:
        raise InstallError(
            "systemd does not run here; for an image name its folder: --root DIR, "
            "else start `edge run --config FILE` from your own supervisor"
        )


def _check_package(place: Place) -> None:
    packaged = place.path(PACKAGE_UNITS / UNIT)
    if place.units != PACKAGE_UNITS and packaged.exists():
        raise InstallError(
            f"{packaged}: the Debian package edge-camera has placed the service; "
            "use systemctl, or apt to remove it"
        )


def _check_links(place: Place) -> None:
    """Refuse an image whose links lead to folders of this machine: /etc/edge -> /data/edge."""
    root = lookup.real(place.root)
    made = [path.parent for path in place.made_by().values()]
    state = [place.root / folder for folder in STATE_DIRS]
    for folder in (place.path(place.units), place.path(SERVICE_CONFIGS), *made, *state):
        target = lookup.real(folder)
        if not target.is_relative_to(root):
            raise InstallError(
                f"{folder}: a link leads to {target}, out of {place.root}; make that link relative"
            )


def _write(path: Path, text: str, *, is_kept: bool = False) -> Step:
    if path.exists():
        if is_kept:
            return Step(f"keep {path}")
        if path.read_bytes() == text.encode():
            return Step(f"unchanged {path}")
    verb = "update" if path.exists() else "write"
    return Step(f"{verb} {path}", lambda: _replace(path, text))


def _link(path: Path, target: Path) -> Step:
    """Return the step that replaces `systemctl enable` in an image, where systemd does not run."""
    if path.is_symlink() and path.readlink() == target:
        return Step(f"unchanged {path}")

    def act() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to(target)

    return Step(f"enable {path}", act)


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # A masked unit is a link to /dev/null, whose mode must stay: the link is replaced.
    durable.replace(path, text.encode(), is_synced=True)


def _local_paths(place: Place) -> Iterator[Path]:
    """Yield the paths made by the administrator and the daemon: state, drop-ins, config.

    In this order: when the removal of state fails, the next purge still knows the instances.
    """
    units = place.path(place.units)
    yield from _state(place, ("edge", *(f"edge-{name}" for name in _instances(place))))
    for dropins in ("edge.service.d", "edge@*.service.d", "edge-rpicam*.d"):
        yield from sorted(units.glob(dropins))
    yield place.path(SERVICE_CONFIGS)


def _state(place: Place, names: Iterable[str]) -> Iterator[Path]:
    """Yield the folders of state that are there, and the links to them, by their names."""
    for folder in STATE_DIRS:
        for name in names:
            path = place.root / folder / name
            if path.is_symlink() or path.exists():
                yield path


def _instances(place: Place) -> list[str]:
    """Return the names of the template's instances: each with a config, a link or a drop-in."""
    units = place.path(place.units)
    configs = place.path(SERVICE_CONFIGS).glob("*.yaml")
    names = {path.stem for path in configs if path.name not in (CONFIG, EXAMPLE)}
    for path in (*_enabled(units), *units.glob("edge@*.service.d")):
        if path.name.startswith("edge@"):
            names.add(path.name.removeprefix("edge@").partition(".service")[0])
    return sorted(names)


def _strangers(place: Place) -> Iterator[Path]:
    """Yield what is named like an instance's state without such an instance: others' folders."""
    known = {f"edge-{name}" for name in _instances(place)}
    for folder in STATE_DIRS:
        for path in sorted((place.root / folder).glob("edge-*")):
            if path.name not in known:
                yield path


def _enabled(units: Path) -> list[Path]:
    """Return the links that `systemctl enable` made, including those of instances."""
    links = sorted(units.glob("*.wants/edge*"))
    own = {UNIT, MODULE_SOCKET}
    return [link for link in links if link.name in own or link.name.startswith("edge@")]


def _remove(path: Path) -> Step:
    if path.is_dir() and not path.is_symlink():
        return Step(f"remove {path}", lambda: shutil.rmtree(path))
    if path.exists() or path.is_symlink():
        return Step(f"remove {path}", lambda: path.unlink(missing_ok=True))
    return Step(f"absent {path}")


def _keep(path: Path) -> Step:
    return Step(f"keep {path}" if path.exists() else f"absent {path}")


def _systemctl(*words: str) -> Step:
    return _command("systemctl", *words)


def _command(*command: str) -> Step:
    def call() -> None:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            reason = " ".join(result.stderr.split())
            raise InstallError(f"{' '.join(command)}: {reason or result.returncode}")

    return Step(" ".join(command), call)
