"""A person's directory on a device: header, store, connection key, files; several side by side.

::

    <root>/<32 random hex digits>/
        header       salt and cost of the PIN, and a check of the key: nothing secret from a thief
                     who lacks the relay's share
        store.db     the store, encrypted
        connection   what a locked device connects with, readable by its owner's account alone
        files/       what the program keeps besides, encrypted by keys inside the store
        header.next  there while the PIN changes: the following header, and the former key under it
        enrolling    there until the device is enrolled (see ``client.enrolling``)
        lease        there for some hours, where nothing better keeps it (see ``client.lease``)
        end          there on a shared workstation that forgets people (see ``client.signing_out``)
        wipe         there from the moment a wipe begins (see ``client.wipe``)

Unlocking takes two steps, because the relay stands between them: ``stretch`` gives the proof that
the relay asks for, ``open`` takes the share that it answers with. A wrong PIN is known by the
relay's answer; where a share is at hand without it, by ``WrongKeyError``.

A PIN change has to replace three things that no transaction joins: the relay's share, the store's
key, the header. ``header.next`` is written before the first and removed after the last. While it is
there, the PIN and share that the relay has decide: those of before mean that nothing was changed,
those that follow mean that the change is to be finished.
"""

from __future__ import annotations

import hmac
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from client.errors import DamagedError, WipingError, WrongKeyError
from crypto import pin
from crypto.errors import DecodeError, InvalidError
from crypto.pin import KEY_CHECK_BYTES, STORE_KEY_BYTES, PinKey, PinParameters
from storage.files import replace_private, sync_directory

if TYPE_CHECKING:
    from client.store import Store

HEADER = "header"
HEADER_NEXT = "header.next"
ENROLLING = "enrolling"
STORE = "store.db"
CONNECTION = "connection"
FILES = "files"
WIPE = "wipe"
END = "end"

NAME_BYTES = 16
"""Of a directory's random name: a person's own name would tell whose it is."""

_NAME = re.compile(r"[0-9a-f]{32}")
_UNFINISHED = ".new-"

UNFINISHED_MS = 3600 * 1000
"""Age in ms at which a creation counts as interrupted: one takes seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Header:
    parameters: PinParameters
    check: bytes = field(repr=False)

    def encode(self) -> bytes:
        return self.parameters.encode() + self.check

    @classmethod
    def decode(cls, data: bytes) -> _Header:
        parameters = PinParameters.decode(data[:-KEY_CHECK_BYTES])
        return cls(parameters=parameters, check=data[-KEY_CHECK_BYTES:])

    def fits(self, store_key: bytes) -> bool:
        return hmac.compare_digest(pin.key_check(store_key), self.check)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Following:
    """What ``header.next`` holds."""

    header: _Header
    masked: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Profile:
    """One person's directory; the store in it is closed until ``open``."""

    directory: Path = field(repr=False)

    @property
    def wiping(self) -> bool:
        """Whether a wipe has begun here."""
        return (self.directory / WIPE).exists()

    @property
    def enrolling(self) -> bool:
        """Whether the device is still to be enrolled."""
        return (self.directory / ENROLLING).exists()

    @property
    def files(self) -> Path:
        """Where the program keeps what is too large for the store, encrypted."""
        return self.directory / FILES

    def connection(self) -> bytes:
        """Return what ``create_profile`` was given for a locked device to connect with.

        Raises:
            DamagedError: It is missing, or not what was written.
        """
        return read_checked(self.directory / CONNECTION, CONNECTION)

    def keep_connection(self, connection: bytes) -> None:
        """Replace what a locked device connects with, as a renewed certificate wants.

        Raises:
            WipingError: A wipe has begun.
        """
        if self.wiping:
            raise WipingError
        write_checked(self.directory / CONNECTION, connection)

    def stretches(self, typed_pin: str) -> Iterator[PinKey]:
        """Yield the keys that a typed PIN may stand for: two in the middle of a PIN change.

        Raises: as ``stretch``.
        """
        following = self._following()
        yield self.stretch(typed_pin)
        if following is not None:
            yield pin.stretch(typed_pin, following.header.parameters)

    def stretch(self, typed_pin: str) -> PinKey:
        """Return the key of a typed PIN, whose ``proof`` the relay is asked with.

        Raises:
            WipingError: A wipe has begun.
            DamagedError: The header is missing, or not what was written.
            InvalidError: It cannot be a PIN.
            MemoryError: The device has not the memory that the PIN's parameters ask for.
        """
        return pin.stretch(typed_pin, self._header().parameters)

    def open(self, key: PinKey, share: bytes) -> Store:
        """Return the store.

        Raises:
            WipingError: A wipe has begun.
            WrongKeyError: PIN or share is not this store's.
            DamagedError: Header or store is missing, or not what was written.
            NewerVersionError: A newer program wrote it.
            InUseError: Another process has it open.
            InvalidError: The share has another length.
        """
        store_key = key.store_key(share)
        following = self._following()
        if self._header().fits(store_key):
            store = _stores().open(self.directory / STORE, store_key)
            self.abandon_change()
            return store
        if following is None or not following.header.fits(store_key):
            raise WrongKeyError
        store = self._open_between(following, store_key)
        self._end_change(following)
        return store

    def begin_change(
        self, former: bytes, *, parameters: PinParameters, key: PinKey, share: bytes
    ) -> None:
        """Make ready for another PIN, before the relay is given the share that goes with it.

        Args:
            former: The store's key.
            parameters: Fresh ones.
            key: The other PIN, stretched with them.
            share: A fresh one.

        Raises:
            WrongKeyError: ``former`` is not the store's key.
        """
        if not self._header().fits(former):
            raise WrongKeyError
        following = key.store_key(share)
        header = _Header(parameters=parameters, check=pin.key_check(following))
        masked = pin.mask_former_key(former, key=following)
        write_checked(self.directory / HEADER_NEXT, header.encode() + masked)

    def finish_change(self, store: Store, *, key: PinKey, share: bytes) -> None:
        """Let the other PIN open the store, once the relay has its share.

        Raises:
            DamagedError: No change has begun.
        """
        following = self._following()
        if following is None:
            raise DamagedError(HEADER_NEXT)
        store.rekey(key.store_key(share))
        self._end_change(following)

    def abandon_change(self) -> None:
        """Forget a change that the relay has not taken part in."""
        overwrite(self.directory / HEADER_NEXT)

    def _open_between(self, following: _Following, store_key: bytes) -> Store:
        """Open the store, under whichever key the change has left it."""
        path = self.directory / STORE
        with suppress(DamagedError):
            return _stores().open(path, store_key)
        former = pin.mask_former_key(following.masked, key=store_key)
        if not self._header().fits(former):
            raise DamagedError(HEADER_NEXT)
        store = _stores().open(path, former)
        try:
            store.rekey(store_key)
        except BaseException:
            store.close()
            raise
        return store

    def _end_change(self, following: _Following) -> None:
        write_checked(self.directory / HEADER, following.header.encode())
        self.abandon_change()

    def _following(self) -> _Following | None:
        if not (self.directory / HEADER_NEXT).exists():
            return None
        data = read_checked(self.directory / HEADER_NEXT, HEADER_NEXT)
        try:
            header = _Header.decode(data[:-STORE_KEY_BYTES])
        except (DecodeError, InvalidError):
            raise DamagedError(HEADER_NEXT) from None
        return _Following(header=header, masked=data[-STORE_KEY_BYTES:])

    def _header(self) -> _Header:
        if self.wiping:
            raise WipingError
        try:
            return _Header.decode(read_checked(self.directory / HEADER, HEADER))
        except (DecodeError, InvalidError):
            raise DamagedError(HEADER) from None


def create_profile(
    root: Path,
    *,
    parameters: PinParameters,
    key: PinKey,
    share: bytes,
    connection: bytes,
    enrolling: bytes | None = None,
    fill: Callable[[Store], None] | None = None,
) -> Profile:
    """Return a new person's directory with a store in it; it is there whole or not at all.

    Args:
        root: Where profiles are; made where it is missing.
        parameters: Those that ``key`` was stretched with.
        key: The stretched PIN.
        share: What the relay was given to keep.
        connection: What a locked device connects with: the connection key, where to, and as which
            device. It is not encrypted.
        enrolling: What is kept until the device is enrolled, where that is still to be done.
        fill: Puts into the store what must be there from the first moment.

    Raises:
        InvalidError: The share has another length.
    """
    store_key = key.store_key(share)
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    name = secrets.token_hex(NAME_BYTES)
    directory = root / (_UNFINISHED + name)
    directory.mkdir(mode=0o700)
    (directory / FILES).mkdir(mode=0o700)
    header = _Header(parameters=parameters, check=pin.key_check(store_key))
    write_checked(directory / HEADER, header.encode())
    write_checked(directory / CONNECTION, connection)
    if enrolling is not None:
        write_checked(directory / ENROLLING, enrolling)
    store = _stores().create(directory / STORE, store_key)
    try:
        if fill is not None:
            fill(store)
    finally:
        store.close()
    sync_directory(directory)
    directory.rename(root / name)
    sync_directory(root)
    return Profile(root / name)


def _stores() -> type[Store]:
    from client.store import Store  # noqa: PLC0415 - a lock screen does without all of MLS

    return Store


def profiles(root: Path) -> list[Profile]:
    """Return every profile, those that are being wiped too."""
    if not root.is_dir():
        return []
    found = sorted(path for path in root.iterdir() if _NAME.fullmatch(path.name))
    return [Profile(path) for path in found if any(path.iterdir())]


def remove_unfinished(root: Path, *, now_ms: int) -> None:
    """Remove what an interrupted creation or the last moment of a wipe left behind.

    For every start of a program. A creation that began lately may be another process's, which is
    still at it, and stays.

    Args:
        root: Where profiles are.
        now_ms: Now.
    """
    for path in list(root.iterdir()) if root.is_dir() else []:
        if path.name.startswith(_UNFINISHED):
            if now_ms - path.stat().st_mtime * 1000 >= UNFINISHED_MS:
                shutil.rmtree(path)
        elif _NAME.fullmatch(path.name) and not any(path.iterdir()):
            path.rmdir()


def write_checked(path: Path, content: bytes) -> None:
    """Write a small file with its hash, durably, whole or not at all."""
    replace_private(path, content + sha256(content).digest())


def read_checked(path: Path, where: str) -> bytes:
    """Return what ``write_checked`` wrote.

    The hash finds decay, not an attacker: what an attacker could write here opens nothing.

    Raises:
        DamagedError: It is missing, or not what was written.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise DamagedError(where) from None
    size = sha256().digest_size
    content, digest = data[:-size], data[-size:]
    if len(data) < size or sha256(content).digest() != digest:
        raise DamagedError(where)
    return content


def overwrite(path: Path, size: int | None = None) -> None:
    """Write random bytes over a file, durably, and remove it; nothing where there is none.

    Args:
        path: The file.
        size: How many bytes from its start, or None for all.
    """
    if path.is_file():
        length = path.stat().st_size if size is None else min(size, path.stat().st_size)
        with path.open("r+b") as file:
            file.write(secrets.token_bytes(length))
            file.flush()
            os.fsync(file.fileno())
    path.unlink(missing_ok=True)
    sync_directory(path.parent)
