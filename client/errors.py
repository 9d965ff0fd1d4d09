"""What a device's store refuses, split by what the caller does next.

No error names a person, a conversation or a path, and none carries content.
"""

from __future__ import annotations


class StoreError(Exception):
    """Base of every error of the store."""


class WrongKeyError(StoreError):
    """PIN or share is not this store's: ask for the PIN again."""

    def __init__(self) -> None:
        super().__init__("the key does not open this store")


class DamagedError(StoreError):
    """Something on the disk is not what was written: enrol again, nothing of it is believed.

    Attributes:
        where: Which part: ``header``, ``database``, ``connection``, ``wipe``.
    """

    def __init__(self, where: str) -> None:
        super().__init__(f"damaged: {where}")
        self.where = where


class FullError(StoreError):
    """The disk has no room. Nothing was kept of what was asked."""

    def __init__(self) -> None:
        super().__init__("no room on the disk")


class FailedError(StoreError):
    """The disk failed, and whether the last change was kept is known only after opening again."""

    def __init__(self) -> None:
        super().__init__("the store failed; open it again")


class InUseError(StoreError):
    """Another process has this store open."""

    def __init__(self) -> None:
        super().__init__("the store is open elsewhere")


class NewerVersionError(StoreError):
    """A newer program wrote this store: update the program.

    Attributes:
        found: The store's schema version.
        known: The newest that this program knows.
    """

    def __init__(self, *, found: int, known: int) -> None:
        super().__init__(f"schema version {found}, known up to {known}")
        self.found = found
        self.known = known


class WipingError(StoreError):
    """A wipe has begun here: finish it; nothing opens this store again."""

    def __init__(self) -> None:
        super().__init__("this store is being wiped")


class RolledBackError(StoreError):
    """The relay knows of messages that this store never made: it is an old copy.

    Its MLS keys may have been used by the other copy, so nothing is sent with them. What heals it
    is ``Store.start_over``.

    Attributes:
        have: The last message id that this store gave.
        seen: The last that the relay has accepted.
    """

    def __init__(self, *, have: int, seen: int) -> None:
        super().__init__(f"the store is at message {have}, the relay at {seen}")
        self.have = have
        self.seen = seen
