"""Model versions on a board: pulled, proved, switched to at once, and back again when they fail.

A version is downloaded beside the others (`model_shelf`), checked against its signature and hashes,
made to repeat its golden picture (the canary) and only then linked, by one rename: a power cut at
any moment leaves the old version or the new one. It is on trial until the daemon has processed a
frame with it. When the daemon cannot be built with it, or ended MAX_STARTS times while it was built
or processed its first frame, the link goes back to the version before, and the failed one is not
taken again. A camera without a frame is not held against it. For that, all of it belongs to the
owner of models_dir, the daemon's user, as whom root pulls.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from edge import bundle, durable, golden, model_store, registry
from edge.bundle import Bundle
from edge.errors import ConfigError, InputError, ModelError
from edge.manifest import is_file_name
from edge.model_shelf import PARTIAL, STATE_NAME, Shelf, State
from edge.registry import Source
from edge.signature import PublicKey, SignatureError

logger = logging.getLogger(__name__)

MAX_STARTS = 3  # that end with the version at work, before one on trial is given up


def refuse_unsigned(folder: Path, trusted: Sequence[PublicKey]) -> None:
    """Raise SignatureError for a folder that no trusted key signed, or that was changed since.

    Without trusted keys every folder passes. What ships with edge always does: it came with the
    code that checks here, and is trusted like it.
    """
    if trusted and not model_store.is_shipped(folder):
        bundle.check_folder(folder, trusted)


def pull(
    store: Source, shelf: Shelf, version: str, trusted: Sequence[PublicKey], *, is_forced: bool
) -> Bundle | None:
    """Bring a version from the registry into service, also the active one if it is damaged here.

    Returns its bundle, None when it is active already.
    is_forced: also an older one, and one that failed here before.
    Raises ConfigError without trusted keys; ModelError, with the active version untouched, when it
    is not what was signed, older than what was active before, or fails its canary run.
    """
    for word in (shelf.name, version):
        _refuse_odd_name(word)
    if not trusted:
        raise ConfigError("models.trusted_keys is empty; name the keys whose versions you trust")
    if shelf.link.exists() and shelf.active is None:
        raise ModelError(f"{shelf.link} was not pulled; move it away, the link takes its place")
    with shelf.pulling():
        if version in shelf.state().refused and not is_forced:
            raise ModelError(
                f"{shelf.name} {version}: it failed or was rolled back here; --force tries again"
            )
        found, is_new = _download(store, shelf, version, trusted)
        if shelf.active == version:  # also after a rollback, when a later one was active before
            return found if is_new else None
        _refuse_replay(found, shelf.state(), is_forced=is_forced)
        _canary(shelf, version)
        with shelf.changing():
            _activate(shelf, found)
            _forget_others(shelf)
    return found


def roll_back(shelf: Shelf, reason: str, trusted: Sequence[PublicKey]) -> str | None:
    """Return to the version before and refuse the active one from now on.

    Returns the version that serves now, None for the shipped model.
    Where that cannot be remembered, the next pull may take the active one again.
    Raises ModelError when nothing was pulled or there is nothing to return to, SignatureError when
    that is not what a trusted key signed, OSError when the link cannot be changed.
    """
    _refuse_odd_name(shelf.name)
    with shelf.changing():
        state, failed, previous = shelf.state(), shelf.active, shelf.previous
        if failed is None:
            raise ModelError(f"model {shelf.name}: no pulled version is active")
        if not shelf.has_way_back:
            raise ModelError(
                f"model {shelf.name}: {failed} stays, without it there is none; pull another one"
            )
        if previous is not None:  # the key that signed it may be one of former times
            refuse_unsigned(shelf.folder / previous, trusted)
        calm = msgspec.structs.replace(
            _refusing(state, failed), previous=None, trial=None, starts=0
        )
        shelf.switch(previous)  # first: a power cut in between leaves nothing on trial
        try:
            shelf.remember(calm)
        except OSError as error:  # a full disk: it is back all the same
            logger.warning("model.refusal_not_kept name=%s reason=%s", shelf.name, error)
    logger.warning(
        "model.rolled_back name=%s from=%s to=%s reason=%s",
        shelf.name,
        failed,
        previous or "the shipped one",
        reason,
    )
    return previous


def count_starts(shelves: Sequence[Shelf], trusted: Sequence[PublicKey]) -> None:
    """Note that the daemon starts with what is on trial; give up what was tried too often."""
    for shelf in shelves:
        if _trial(shelf) is None:
            continue
        try:
            if _count_start(shelf) > MAX_STARTS and shelf.has_way_back:
                roll_back(shelf, f"the daemon ended {MAX_STARTS} times with it", trusted)
        except SignatureError as error:
            logger.warning("model.not_rolled_back name=%s reason=%s", shelf.name, error)
        except OSError as error:
            logger.warning("model.trial_not_counted name=%s reason=%s", shelf.name, error)


def give_up_trials(
    shelves: Sequence[Shelf], reason: str, trusted: Sequence[PublicKey]
) -> dict[Shelf, State]:
    """Roll back all that is on trial and has a way back; return what was remembered of it."""
    tried = {}
    for shelf in shelves:
        state = _trial(shelf)
        if state is None or not shelf.has_way_back:
            continue
        try:
            roll_back(shelf, reason, trusted)
        except SignatureError as error:
            logger.warning("model.not_rolled_back name=%s reason=%s", shelf.name, error)
            continue
        except OSError as error:
            raise ModelError(f"model {shelf.name}: cannot go back: {error}; {reason}") from error
        tried[shelf] = state
    return tried


def try_again(tried: Mapping[Shelf, State]) -> None:
    """Put back on trial what was given up for a fault that was not its own."""
    for shelf, state in tried.items():
        try:
            with shelf.changing():
                shelf.remember(msgspec.structs.replace(state, starts=0))
                shelf.switch(state.trial)
            logger.warning("model.trial_resumed name=%s version=%s", shelf.name, state.trial)
        except OSError as error:
            logger.warning("model.trial_not_resumed name=%s reason=%s", shelf.name, error)


def wait_for_frame(loaded: Mapping[Shelf, str | None]) -> None:
    """Take back that the daemon started with the versions on trial: it was built with them."""
    for shelf, version in loaded.items():
        _count_anew(shelf, version, -1)


def begin_frame(loaded: Mapping[Shelf, str | None]) -> None:
    """Count the start again, before the first frame is processed with the versions on trial."""
    for shelf, version in loaded.items():
        _count_anew(shelf, version, 1)


def _count_anew(shelf: Shelf, version: str | None, step: int) -> None:
    def count(state: State) -> State:
        return msgspec.structs.replace(state, starts=max(0, state.starts + step))

    try:
        _change_trial(shelf, version, count)
    except OSError as error:
        logger.warning("model.trial_not_counted name=%s reason=%s", shelf.name, error)


def _count_start(shelf: Shelf) -> int:
    """Return how many starts there were with what is on trial, this one included."""
    with shelf.changing():
        state = _trial(shelf)
        if state is None:  # a rollback came first
            return 0
        if state.starts < MAX_STARTS:
            shelf.remember(msgspec.structs.replace(state, starts=state.starts + 1))
        return state.starts + 1


def confirm(loaded: Mapping[Shelf, str | None]) -> None:
    """End the trials of the versions that the daemon loaded: a frame was processed with them."""
    for shelf, version in loaded.items():
        try:
            is_ended = _change_trial(shelf, version, _end_trial)
        except OSError as error:
            logger.warning("model.trial_not_ended name=%s reason=%s", shelf.name, error)
            continue
        if is_ended:
            logger.info("model.confirmed name=%s version=%s", shelf.name, version)


def _end_trial(state: State) -> State:
    return msgspec.structs.replace(state, trial=None, starts=0)


def _change_trial(shelf: Shelf, version: str | None, change: Callable[[State], State]) -> bool:
    """Change what is remembered of a version; return whether it is on trial, else do nothing.

    Raises OSError when that cannot be written.
    """
    state = _trial(shelf)  # mostly there is none, and nothing to lock
    if state is None or state.trial != version:
        return False
    with shelf.changing():
        state = _trial(shelf)
        if state is None or state.trial != version:  # a pull came first
            return False
        shelf.remember(change(state))
    return True


def _refuse_odd_name(word: str) -> None:
    if not is_file_name(word) or word == STATE_NAME:
        raise ModelError(f"{word!r}: not a name of a model or version; see edge models")


def _trial(shelf: Shelf) -> State | None:
    """Return the state when what is active is on trial, else None; a damaged one is only logged."""
    try:
        state = shelf.state()
    except ModelError as error:
        logger.warning("model.trial_unknown name=%s reason=%s", shelf.name, error)
        return None
    return state if state.trial is not None and state.trial == shelf.active else None


def _refusing(state: State, version: str) -> State:
    others = (one for one in state.refused if one != version)
    return msgspec.structs.replace(state, refused=(*others, version))


def _download(
    store: Source, shelf: Shelf, version: str, trusted: Sequence[PublicKey]
) -> tuple[Bundle, bool]:
    """Put a version onto the shelf unless it is there, whole; also return whether it was not."""
    with shelf.changing():  # or what the daemon writes in this moment would go, too
        for rest in shelf.folder.glob(f"{PARTIAL}*"):  # of a power cut
            shutil.rmtree(rest) if rest.is_dir() else rest.unlink()
    folder = shelf.folder / version
    if folder.is_dir():
        with suppress(ModelError, OSError):  # damaged on the card
            return bundle.check_folder(folder, trusted), False
    part = Path(tempfile.mkdtemp(dir=shelf.folder, prefix=PARTIAL))
    damaged = part.with_name(f"{part.name}-damaged")
    try:
        found = registry.fetch(store, shelf.name, version, part, trusted)
        part.chmod(0o755)
        durable.sync_folder(part)
        with suppress(FileNotFoundError):
            folder.rename(damaged)
        part.rename(folder)
        durable.sync_folder(shelf.folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(damaged, ignore_errors=True)
    return found, True


def _refuse_replay(found: Bundle, state: State, *, is_forced: bool) -> None:
    digest = bundle.fact_of(found.encode()).sha256
    if found.serial == state.serial and digest != state.bundle_sha256:
        raise SignatureError(
            f"{found.name} {found.version}: another version had its serial {found.serial}; "
            "the registry was rewound or two sign for it"
        )
    if found.serial < state.serial and not is_forced:
        raise SignatureError(
            f"{found.name} {found.version}: older (serial {found.serial}) than what was active "
            f"here (serial {state.serial}); --force goes back"
        )


def _canary(shelf: Shelf, version: str) -> None:
    """Load a version and let it repeat its golden picture, before anything depends on it."""
    try:
        faults = golden.differences(shelf.folder / version)
    except (ModelError, InputError) as error:
        faults = [str(error)]
    if faults:
        with shelf.changing():
            shelf.remember(_refusing(shelf.state(), version))
        raise ModelError(
            f"{shelf.name} {version}: canary run failed: {faults[0]} ({len(faults)} in all); "
            f"{shelf.active or 'what was installed'} stays"
        )


def _activate(shelf: Shelf, found: Bundle) -> None:
    state, before = shelf.state(), shelf.active
    is_older = found.serial < state.serial
    digest = state.bundle_sha256 if is_older else bundle.fact_of(found.encode()).sha256
    # A version that has not proved itself yet is nothing to go back to.
    previous = state.previous if state.trial == before else before
    shelf.remember(
        State(
            serial=max(found.serial, state.serial),
            bundle_sha256=digest,
            previous=previous,
            trial=found.version,
            refused=tuple(one for one in state.refused if one != found.version),
        )
    )
    shelf.switch(found.version)
    logger.info("model.activated name=%s version=%s before=%s", shelf.name, found.version, before)


def _forget_others(shelf: Shelf) -> None:
    """Remove versions that are neither active nor what a rollback returns to."""
    needed = {shelf.active, shelf.state().previous}
    for folder in shelf.folder.iterdir():
        if folder.is_dir() and folder.name not in needed:
            shutil.rmtree(folder)
