"""Error codes on the wire, and the two errors of a session: our own caller's, and the peer's.

A code says what the receiver does next, never what the relay knows: "no such" and "not yours" are
one code, and so are all the ways in which a proof can be wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Code(IntEnum):
    """Why a frame was refused or a connection closed."""

    MALFORMED = 1
    OUT_OF_STATE = 2
    VERSION = 3
    TOO_LARGE = 4
    NOT_PROVED = 5
    SILENT = 6
    DRAINING = 7
    REVOKED = 8
    REPLACED = 9
    OVERLOADED = 10
    RECONCILING = 11
    OUTDATED = 12
    NO_SUCH = 20
    FORBIDDEN = 21
    STALE_EPOCH = 22
    COMMIT_CONFLICT = 23
    OLD_MESSAGE = 24
    RATE_LIMITED = 25
    FULL = 26
    INVALID = 27
    WRONG_SECRET = 28
    SHARE_LOCKED = 29
    QUOTA = 30
    NO_KEY_PACKAGE = 31
    EXPIRED = 32
    REMOVED = 33
    STALE_STATEMENT = 34
    NOT_STRONG = 35
    BUSY = 36
    STALE_CHECKPOINT = 60
    FORKED_CHECKPOINT = 61
    BACKLOG = 62
    OVERSIZED = 63
    WRONG_PIN = 70
    STALE_VERSION = 80
    TAKEN = 81
    PAGE_ENDED = 82


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeMeaning:
    """What a code means to whoever receives it.

    Attributes:
        closes: Whether the connection ends with it.
        detail: What the number beside the code is; empty where it is always 0.
        then: What the receiver does next.
    """

    closes: bool
    detail: str
    then: str


def _closing(then: str, *, detail: str = "") -> CodeMeaning:
    return CodeMeaning(closes=True, detail=detail, then=then)


def _refusing(then: str, *, detail: str = "") -> CodeMeaning:
    return CodeMeaning(closes=False, detail=detail, then=then)


MEANINGS: dict[Code, CodeMeaning] = {
    Code.MALFORMED: _closing("report a fault: the frame was no encoding of any frame"),
    Code.OUT_OF_STATE: _closing("report a fault: the frame was not allowed in this state"),
    Code.VERSION: _closing("update the program: no version in common"),
    Code.TOO_LARGE: _closing("report a fault: a frame or field was over its limit"),
    Code.NOT_PROVED: _closing("check organisation, device and keys; nothing more is said"),
    Code.SILENT: _closing("connect again: no proof arrived in time"),
    Code.DRAINING: _closing("connect again after the pause", detail="milliseconds to wait"),
    Code.REVOKED: _closing("stop: this device or user is revoked or suspended"),
    Code.REPLACED: _closing("stop: the same device has connected elsewhere"),
    Code.OVERLOADED: _closing("connect again after the pause", detail="milliseconds to wait"),
    Code.RECONCILING: _closing(
        "connect again after the pause: the relay was restored and asks the archive first",
        detail="milliseconds to wait",
    ),
    Code.OUTDATED: _closing("connect with a certificate request: the certificate has expired"),
    Code.NO_SUCH: _refusing("give up: it does not exist, or not for this device"),
    Code.FORBIDDEN: _refusing("give up: the device's roles do not allow it"),
    Code.STALE_EPOCH: _refusing(
        "process what was delivered, encrypt again under the same message id",
        detail="the conversation's epoch",
    ),
    Code.COMMIT_CONFLICT: _refusing(
        "process the winner, then decide anew", detail="sequence number of the winning Commit"
    ),
    Code.OLD_MESSAGE: _refusing("drop it: the id is older than the window of repeats"),
    Code.RATE_LIMITED: _refusing("try again after the pause", detail="milliseconds to wait"),
    Code.FULL: _refusing("keep it and try again: the relay cannot store", detail="milliseconds"),
    Code.INVALID: _refusing("report a fault: the content breaks a rule"),
    Code.WRONG_SECRET: _refusing("ask the person again after the pause", detail="milliseconds"),
    Code.SHARE_LOCKED: _refusing("prove password and one-time code first"),
    Code.QUOTA: _refusing("give up or delete: the quota is used", detail="bytes left"),
    Code.NO_KEY_PACKAGE: _refusing("try later: the device has published none"),
    Code.EXPIRED: _refusing("ask in the log to be added again: unread entries have expired"),
    Code.REMOVED: _refusing("drop the conversation's keys: this device was removed"),
    Code.STALE_STATEMENT: _refusing("sign anew: it is outside the allowed time, or a repeat"),
    Code.NOT_STRONG: _refusing("prove password and one-time code, then send it again"),
    Code.BUSY: _refusing("wait for answers: too many requests are in flight"),
    Code.STALE_CHECKPOINT: _refusing(
        "prove growth from the size that was cosigned last", detail="that size"
    ),
    Code.FORKED_CHECKPOINT: _refusing(
        "stop and report: the log is not one that grew from what was cosigned",
        detail="size that was cosigned last",
    ),
    Code.BACKLOG: _refusing(
        "keep it and try again, or send it as urgent: the archive is too far behind",
        detail="milliseconds to wait",
    ),
    Code.OVERSIZED: _refusing("shorten it, or send it as an attachment", detail="most bytes"),
    Code.WRONG_PIN: _refusing(
        "ask the person again after the pause",
        detail="milliseconds to wait, times 16, and the tries left",
    ),
    Code.STALE_VERSION: _refusing(
        "look at the change that was first, then decide anew", detail="the present version"
    ),
    Code.TAKEN: _refusing("tell the person: somebody else has the shift"),
    Code.PAGE_ENDED: _refusing("drop it: the page has ended and asks nobody"),
}
"""What each code means; ``docs/protocol.md`` is compared with it."""

WAITS = frozenset({Code.RATE_LIMITED, Code.FULL, Code.BUSY})
"""Refusals that hold for now alone: the same is sent again later. All others are answers."""


class ProtocolError(Exception):
    """Base of a session's errors; neither carries content or identity."""


class LocalProtocolError(ProtocolError):
    """Our own caller asked to send what the state table does not allow: a bug there."""


class RemoteProtocolError(ProtocolError):
    """The peer sent what it may not; the connection ends with ``code``.

    Attributes:
        code: What to tell the peer.
    """

    def __init__(self, code: Code) -> None:
        super().__init__(code.name)
        self.code = code
