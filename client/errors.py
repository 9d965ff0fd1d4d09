"""What a device's store, its connection and its unlocking refuse, by what the caller does next.

No error names a person, a conversation or a path, and none carries content.
"""

from __future__ import annotations

from protocol.errors import Code
from protocol.policy import Action


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
    """The disk failed, and whether the last change was kept is known only after opening again.

    Attributes:
        full: Whether it failed for lack of room: then everything is there once there is some.
    """

    def __init__(self, *, full: bool = False) -> None:
        super().__init__("the store failed; open it again")
        self.full = full


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


class LinkError(Exception):
    """Base of every error of a connection to the relay."""


class UnreachableError(LinkError):
    """There is no relay: try again after a pause; the device goes on without it."""

    def __init__(self, reason: str = "the relay is not reached") -> None:
        super().__init__(reason)


class ImpostorError(UnreachableError):
    """What answers is not the pinned relay: nothing was said to it. Tell the person, try again."""

    def __init__(self) -> None:
        super().__init__("what answers is not the relay of the invitation")


class LostError(LinkError):
    """The connection has ended: connect again after a pause.

    Attributes:
        broke: What the relay did that no relay may do, where that was the reason: report a fault.
    """

    def __init__(self, *, broke: Code | None = None) -> None:
        super().__init__("the connection is lost" if broke is None else f"broken: {broke.name}")
        self.broke = broke


class ClosedError(LostError):
    """The relay has ended the connection, and said why.

    Attributes:
        code: Why, and so what to do next.
        detail: The number that belongs to the code, else 0.
    """

    def __init__(self, code: Code, detail: int = 0) -> None:
        super().__init__()
        self.args = (f"closed: {code.name}",)
        self.code = code
        self.detail = detail


class RefusedError(LinkError):
    """A request had no effect.

    Attributes:
        code: Why, and so what to do next.
        detail: The number that belongs to the code, else 0.
    """

    def __init__(self, code: Code, detail: int = 0) -> None:
        super().__init__(f"refused: {code.name}")
        self.code = code
        self.detail = detail


class UnlockError(Exception):
    """Base of every reason why a store is not opened, beside those of the disk."""


class NotEnrolledError(UnlockError):
    """The enrolment was interrupted: go on with it, by the same invitation."""

    def __init__(self) -> None:
        super().__init__("the device is not enrolled yet")


class WrongPinError(UnlockError):
    """It was another PIN: ask again, after the wait.

    Attributes:
        wait_ms: Milliseconds before the next try.
        tries_left: How many before password and one-time code are wanted; ``None`` where it was no
            PIN at all, and nothing was counted.
    """

    def __init__(self, *, wait_ms: int = 0, tries_left: int | None = None) -> None:
        super().__init__("another PIN")
        self.wait_ms = wait_ms
        self.tries_left = tries_left


class ProveFirstError(UnlockError):
    """Password and one-time code are wanted first."""


class ShareLockedError(ProveFirstError):
    """There were ten wrong PINs: prove password and one-time code, then try again."""

    def __init__(self) -> None:
        super().__init__("too many wrong PINs")


class AbsentError(ProveFirstError):
    """The device was away for long: prove password and one-time code, then try again."""

    def __init__(self) -> None:
        super().__init__("away for long")


class RestingError(UnlockError):
    """The relay asks for a pause.

    Attributes:
        wait_ms: Its length in milliseconds.
    """

    def __init__(self, wait_ms: int) -> None:
        super().__init__("the relay asks for a pause")
        self.wait_ms = wait_ms


class OfflineError(UnlockError):
    """The relay is not reached, and no lease runs: the store opens once it is."""

    def __init__(self) -> None:
        super().__init__("neither relay nor lease")


class RestoringError(OfflineError):
    """The relay was restored and serves nobody before it has asked the archive; no lease runs."""


class WithheldError(UnlockError):
    """The relay withholds the share: the device is suspended, or is to be wiped. See its order."""

    def __init__(self) -> None:
        super().__init__("the relay withholds the share")


class SuspendedError(UnlockError):
    """The device is suspended and has no order to follow: nothing is lost, and nothing opens."""

    def __init__(self) -> None:
        super().__init__("the device is suspended")


class OutdatedError(UnlockError):
    """The relay does not take the device's certificate any more: enrol again."""

    def __init__(self) -> None:
        super().__init__("the certificate does not count any more")


class WrongPasswordError(UnlockError):
    """Password or one-time code is wrong: ask again, after the wait.

    Attributes:
        wait_ms: Milliseconds before the next try.
    """

    def __init__(self, wait_ms: int = 0) -> None:
        super().__init__("another password or one-time code")
        self.wait_ms = wait_ms


class ActError(Exception):
    """Base of what a device cannot do for its person, or not now."""


class NotConnectedError(ActError):
    """There is no connection to the relay, or not in time: what was asked was not done."""

    def __init__(self) -> None:
        super().__init__("there is no connection to the relay")


class NotOutError(NotConnectedError):
    """What was said is kept on this device, and has not gone out in time: it does by itself."""


class UnknownUserError(ActError):
    """The organisation has no device of such a person, as far as the relay tells."""

    def __init__(self) -> None:
        super().__init__("nobody of that name has a device")


class NotMemberError(ActError):
    """This device has never been in the conversation."""

    def __init__(self) -> None:
        super().__init__("this device is not in the conversation")


class EndedError(NotMemberError):
    """This device is not in the conversation any more; what was said stays readable."""

    def __init__(self) -> None:
        ActError.__init__(self, "this device is no longer in the conversation")


class ReturningError(NotMemberError):
    """This device lost its keys of the conversation, and has asked to be let in again."""

    def __init__(self) -> None:
        ActError.__init__(self, "this device is being let back into the conversation")


class ArchiveMissingError(ActError):
    """The archive is not in the conversation: nothing is sent that it would not have."""

    def __init__(self) -> None:
        super().__init__("the archive is not in the conversation")


class ForbiddenError(ActError):
    """This person may not do that here."""

    def __init__(self) -> None:
        super().__init__("this person may not do that here")


class NotSaidError(ForbiddenError):
    """This person may not say that here, or not about that message.

    Attributes:
        reason: Why, in words for the person.
    """

    def __init__(self, reason: str) -> None:
        ActError.__init__(self, reason)
        self.reason = reason


class KeptInsideError(ForbiddenError):
    """The policy does not let this person save files outside of Wardline."""

    def __init__(self) -> None:
        ActError.__init__(self, "the policy does not let this person save files")


class NotAllowedError(ForbiddenError):
    """The policy does not let this person's role do that: an administrator can change it.

    Attributes:
        action: What it is that they may not.
    """

    def __init__(self, action: Action) -> None:
        ActError.__init__(self, f"the policy does not allow it: {action.name}")
        self.action = action


class BarredError(ForbiddenError):
    """The policy does not let somebody who is to come in be in conversations."""

    def __init__(self) -> None:
        ActError.__init__(self, "somebody may not receive messages")


class UnsentError(ActError):
    """Something that was said has not gone out, and would be lost: ask, or wait for the network.

    Attributes:
        unsent: How many messages.
    """

    def __init__(self, unsent: int) -> None:
        super().__init__("something has not gone out")
        self.unsent = unsent


class InvitationError(UnlockError):
    """The invitation or grant is mistyped, unknown, used or has ended: ask for another."""

    def __init__(self) -> None:
        super().__init__("the invitation does not count")


class WeakPasswordError(UnlockError):
    """The password is too short, common or made of the name: choose another."""

    def __init__(self) -> None:
        super().__init__("the password is too easily guessed")


class TooLargeError(ActError):
    """The file is larger than an attachment may be, or the relay's quota is used up."""

    def __init__(self) -> None:
        super().__init__("larger than an attachment may be, or no quota is left")


class GoneError(ActError):
    """The relay has the attachment no more: ask for it to be sent again."""

    def __init__(self) -> None:
        super().__init__("the attachment is not there any more")


class AlteredError(ActError):
    """What came is not the attachment that its message names: nothing of it is kept."""

    def __init__(self) -> None:
        super().__init__("not the attachment of its message")
