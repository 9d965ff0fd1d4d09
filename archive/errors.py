"""What the archive raises beside the errors of ``crypto``, split by what the caller does next.

No error carries a body, a key or an identity.
"""

from __future__ import annotations


class ArchiveError(Exception):
    """Base of every error that this package raises."""


class StoreFullError(ArchiveError):
    """There is no room: nothing was recorded; ask again once there is."""


class StoreFailedError(ArchiveError):
    """The disk failed: open the log anew, and repeat what got no receipt."""


class DamagedError(ArchiveError):
    """A file is not what was written: audit it, and restore from a copy.

    Attributes:
        where: Which file or table.
    """

    def __init__(self, where: str) -> None:
        super().__init__(f"damaged: {where}")
        self.where = where


class ConflictError(ArchiveError):
    """Another instance records or signs with the same key: stop this one."""


class HistoryError(ArchiveError):
    """A tree that is older than, or another than, what was signed or cosigned: stop, and audit."""


class HeldError(ArchiveError):
    """A legal hold covers a record that was to be shredded: nothing was shredded.

    Attributes:
        hold: Index of the record that set the hold.
    """

    def __init__(self, hold: int) -> None:
        super().__init__("held")
        self.hold = hold


class ShreddedError(ArchiveError):
    """The record's body was shredded; its leaf and proofs remain."""


class NotWitnessedError(ArchiveError):
    """A record is not under a cosigned checkpoint as yet: ask again; nothing was handed out."""


class SessionError(ArchiveError):
    """A review session has ended or was never begun: begin another, with a request of its own."""
