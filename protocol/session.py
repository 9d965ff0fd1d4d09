"""One connection's conversation as a state table, without I/O: the relay and clients run the same.

``Session`` turns frames into bytes and bytes into frames and refuses, on either side, what the
table does not allow. It knows no keys, no clock and no log: whoever owns it decides what to send.
"""

from __future__ import annotations

from enum import Enum

from protocol import frames
from protocol.errors import Code, LocalProtocolError, RemoteProtocolError
from protocol.frames import Frame, Sender

VERSION = 1
"""The one version of the frames that this program speaks."""


class State(Enum):
    """Where a connection stands; the same for both of its ends, up to what is under way."""

    START = "start"
    GREETED = "greeted"
    CHALLENGED = "challenged"
    PROVING = "proving"
    LOCKED = "locked"
    UNLOCKING = "unlocking"
    OPEN = "open"
    ABSENT = "absent"
    ORDERED = "ordered"
    ENROLLING = "enrolling"
    RECONCILING = "reconciling"
    CLOSED = "closed"

    # A state is looked up for every frame; Enum's own hash is a call into Python.
    __hash__ = object.__hash__


def _stays(state: State, *kinds: type[Frame]) -> dict[type[Frame], State]:
    return dict.fromkeys(kinds, state)


_PROVED: dict[type[Frame], State] = {
    frames.Locked: State.LOCKED,
    frames.Opened: State.OPEN,
    frames.Absent: State.ABSENT,
    frames.Ordered: State.ORDERED,
    frames.Enrolling: State.ENROLLING,
    frames.Reconciling: State.RECONCILING,
}
_ANSWERS = (frames.Done, frames.Refused)
_HEADERS = (frames.Ring, frames.RingEnded, frames.Deliver, frames.Share, *_ANSWERS)
_ALERTS = (frames.Post, frames.TestAlert, frames.AlertHeard)
"""What a locked device may still do about an alert: answer a page, and see whether it rings."""

TABLE: dict[State, dict[type[Frame], State]] = {
    State.START: {frames.Hello: State.GREETED},
    State.GREETED: {frames.Challenge: State.CHALLENGED},
    State.CHALLENGED: {frames.Prove: State.PROVING},
    State.PROVING: _PROVED,
    State.LOCKED: {
        **_stays(State.LOCKED, frames.GetShare, frames.Authenticate, frames.Acknowledge),
        **_stays(State.LOCKED, *_ALERTS, *_HEADERS),
        frames.Unlock: State.UNLOCKING,
    },
    State.UNLOCKING: {**_stays(State.UNLOCKING, *_HEADERS), frames.Opened: State.OPEN},
    State.OPEN: _stays(
        State.OPEN,
        frames.Authenticate,
        frames.Append,
        frames.AppendCommit,
        frames.Post,
        frames.Acknowledge,
        frames.Lookup,
        frames.PublishKeyPackages,
        frames.ClaimKeyPackage,
        frames.Command,
        frames.StoreShare,
        frames.GetShare,
        frames.Deliver,
        frames.Accepted,
        frames.RefusedMessage,
        frames.Directory,
        frames.KeyPackage,
        frames.Share,
        frames.Ended,
        frames.Behind,
        frames.Witness,
        frames.Cosigned,
        frames.GetWitnessKey,
        frames.WitnessKey,
        frames.Standing,
        frames.Statements,
        frames.LookupCertificates,
        frames.Ring,
        frames.RingEnded,
        frames.TestAlert,
        frames.AlertHeard,
        frames.GetReach,
        frames.Reach,
        *_ANSWERS,
    ),
    State.ABSENT: {
        **_stays(State.ABSENT, frames.Authenticate, *_ANSWERS),
        frames.Locked: State.LOCKED,
        frames.Opened: State.OPEN,
    },
    State.ORDERED: _stays(
        State.ORDERED, frames.Deliver, frames.Post, frames.Acknowledge, *_ANSWERS
    ),
    State.ENROLLING: _stays(
        State.ENROLLING,
        frames.Enrol,
        frames.ConfirmEnrolment,
        frames.Acknowledge,
        frames.Provisioned,
        frames.Deliver,
        *_ANSWERS,
    ),
    State.RECONCILING: _stays(
        State.RECONCILING, frames.Adopt, frames.Replay, frames.Resume, *_ANSWERS
    ),
    State.CLOSED: {},
}
"""State, frame, next state. The relay may send ``Close`` in every state but the last."""

for _state, _row in TABLE.items():
    if _state is not State.CLOSED:
        _row[frames.Close] = State.CLOSED


def negotiate(versions: tuple[int, ...]) -> int:
    """Return the highest version that both sides speak.

    Raises:
        RemoteProtocolError: There is none.
    """
    if VERSION not in versions:
        raise RemoteProtocolError(Code.VERSION)
    return VERSION


class Session:
    """One end of a connection.

    Attributes:
        state: Where the connection stands.
    """

    __slots__ = ("_peer", "_us", "state")

    def __init__(self, us: Sender) -> None:
        self._us = us
        self._peer = Sender.RELAY if us is Sender.CLIENT else Sender.CLIENT
        self.state = State.START

    def send(self, frame: Frame) -> bytes:
        """Return the bytes to send for ``frame`` and move on.

        Raises:
            LocalProtocolError: The table does not allow it here, or it is the other side's frame.
        """
        following = TABLE[self.state].get(type(frame))
        if following is None or frame.sender is not self._us:
            raise LocalProtocolError(f"{type(frame).__name__} in state {self.state.value}")
        self.state = following
        return frames.encode(frame)

    def may_send(self, kind: type[Frame]) -> bool:
        """Tell whether a frame of this kind may be sent now, for one that is encoded already."""
        return kind in TABLE[self.state]

    def receive(self, data: bytes) -> Frame:
        """Return the frame that the peer sent as ``data`` and move on.

        Raises:
            RemoteProtocolError: It is no frame, or one that is not allowed here. The state is as
                it was; the connection is to be closed with the error's code.
        """
        frame = frames.decode(data, sender=self._peer)
        following = TABLE[self.state].get(type(frame))
        if following is None:
            raise RemoteProtocolError(Code.OUT_OF_STATE)
        self.state = following
        return frame
