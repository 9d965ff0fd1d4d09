"""The frames: one MessagePack array each, a tag first, then the fields in the order written here.

Types are strict, arrays have exactly their fields, and ``decode`` accepts only the bytes that
``encode`` makes, so a frame has one encoding. Nothing in a frame repeats what the message inside
says of itself: the conversation, epoch and message id of an ``Append`` stand in the MLS message.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from protocol import limits
from protocol.errors import Code, RemoteProtocolError

NONCE_BYTES = 32
TOKEN_BYTES = 32
SIGNATURE_BYTES = 64
KEY_BYTES = 32
SHARE_BYTES = 32

U63 = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
U62 = Annotated[int, Meta(ge=0, le=1 << 62)]
"""A number behind which others come: what a relay makes up leaves room for those."""
U32 = Annotated[int, Meta(ge=0, le=(1 << 32) - 1)]
Time = Annotated[int, Meta(ge=0, le=limits.TIME_MAX_MS)]
Nonce = Annotated[bytes, Meta(min_length=NONCE_BYTES, max_length=NONCE_BYTES)]
Bytes32 = Annotated[bytes, Meta(min_length=32, max_length=32)]
Signature = Annotated[bytes, Meta(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]
OptionalSignature = Annotated[bytes, Meta(max_length=SIGNATURE_BYTES)]
Name = Annotated[str, Meta(max_length=97)]
Log = Annotated[bytes, Meta(min_length=1, max_length=98)]
Message = Annotated[bytes, Meta(max_length=limits.COMMIT_BYTES)]
"""Of an application message; one beyond ``MESSAGE_BYTES`` is refused by its id, not unread."""
Commit = Annotated[bytes, Meta(max_length=limits.COMMIT_BYTES)]
Welcome = Annotated[bytes, Meta(max_length=limits.WELCOME_BYTES)]
Statement = Annotated[bytes, Meta(max_length=limits.STATEMENT_BYTES)]
ItemBytes = Annotated[bytes, Meta(max_length=limits.STATEMENT_BYTES + 1)]
KeyPackageBytes = Annotated[bytes, Meta(max_length=limits.KEY_PACKAGE_BYTES)]
Password = Annotated[str, Meta(max_length=limits.PASSWORD_MAX)]
OneTimeCode = Annotated[str, Meta(max_length=8)]


class EntryKind(IntEnum):
    """What an entry does to its log, or why its body is empty.

    A ``MESSAGE`` is an MLS message in a conversation, a signed statement in the inbox of a device
    and in the control log, and a security event in the audit log.
    """

    MESSAGE = 0
    COMMIT = 1
    RECEIPT = 2
    VOID = 3
    WELCOME = 4
    VOIDED = 5
    EXPIRED = 6
    PAGE = 7
    """The relay's: how far a page has come (``protocol.oncall.page_event``)."""
    WITHHELD = 8
    """A message whose content the policy keeps from the reader: its body is left out."""


class RingReason(IntEnum):
    """Why a device rings."""

    MESSAGE = 0
    PAGE = 1
    AGAIN = 2
    ALARM = 3
    TEST = 4
    UNREACHABLE = 5
    GAP = 6


class Attention(IntEnum):
    """How an entry may reach its recipient: decided for each, never whether it does."""

    ALERT = 1
    SILENT = 2
    HELD = 3


class Sender(IntEnum):
    """Which side may send a frame."""

    CLIENT = 0
    RELAY = 1


class Frame(
    msgspec.Struct,
    frozen=True,
    array_like=True,
    forbid_unknown_fields=True,
    kw_only=True,
    gc=False,
):
    """Base of all frames; values alone, so that no garbage collector need look for cycles."""

    sender: ClassVar[Sender]

    def __repr__(self) -> str:
        """Name the frame alone: fields hold secrets, content and identities."""
        return f"{type(self).__name__}(...)"


class _FromClient(Frame, frozen=True):
    sender: ClassVar[Sender] = Sender.CLIENT


class _FromRelay(Frame, frozen=True):
    sender: ClassVar[Sender] = Sender.RELAY


class Hello(_FromClient, frozen=True, tag=1):
    """Opens a connection: who claims to speak, in which versions.

    ``certificate`` is sent when the relay may not know it yet (first visit, renewal), and
    ``request``, a certificate request, by a device that has none; else both are empty.
    """

    versions: Annotated[tuple[U32, ...], Meta(min_length=1, max_length=16)]
    organisation: Bytes32
    device: Name
    nonce: Nonce
    certificate: Statement
    request: Statement


class Prove(_FromClient, frozen=True, tag=2):
    """Proves the connection key, and the device's own key too where the store is open."""

    connection_signature: Signature
    device_signature: OptionalSignature


class Unlock(_FromClient, frozen=True, tag=3):
    """Proves the device's own key later, once the store was opened on this connection."""

    signature: Signature


class Authenticate(_FromClient, frozen=True, tag=4):
    """Proves password and one-time code: after long absence, and before an administrator's act."""

    ref: U32
    password: Password
    code: OneTimeCode


class Append(_FromClient, frozen=True, tag=5):
    """Appends one application or proposal message to its conversation."""

    message: Message


class AppendCommit(_FromClient, frozen=True, tag=6):
    """Appends a Commit with its Welcome (empty where it adds nobody); the first one creates."""

    message: Commit
    welcome: Welcome


class Post(_FromClient, frozen=True, tag=7):
    """Appends a signed statement to a log: a receipt, a void, a note; an item to an inbox.

    A statement goes into a conversation as it is, and into an inbox as an item: an octet before it
    says what it is.
    """

    ref: U32
    log: Log
    statement: ItemBytes


class Acknowledge(_FromClient, frozen=True, tag=8):
    """Moves the device's cursor: every entry up to ``through`` has its effect on its disk."""

    log: Log
    through: U63


class Lookup(_FromClient, frozen=True, tag=9):
    """Asks for the devices of users."""

    ref: U32
    users: Annotated[tuple[Name, ...], Meta(max_length=limits.LOOKUP_DEVICES)]


class PublishKeyPackages(_FromClient, frozen=True, tag=10):
    """Adds one-time key packages; a non-empty ``last_resort`` replaces the one of last resort.

    With ``replace`` all that was published before is dropped: the device has no longer its secrets.
    """

    ref: U32
    packages: Annotated[tuple[KeyPackageBytes, ...], Meta(max_length=limits.KEY_PACKAGES)]
    last_resort: KeyPackageBytes
    replace: bool = False


class ClaimKeyPackage(_FromClient, frozen=True, tag=11):
    """Takes one key package of a device."""

    ref: U32
    device: Name


class Command(_FromClient, frozen=True, tag=12):
    """Submits a signed command to the control log."""

    ref: U32
    statement: Statement


class StoreShare(_FromClient, frozen=True, tag=13):
    """Deposits the store's unlock share under a proof of the PIN."""

    ref: U32
    share: Bytes32
    pin_proof: Bytes32


class GetShare(_FromClient, frozen=True, tag=14):
    """Asks for the unlock share with a proof of the PIN."""

    ref: U32
    pin_proof: Bytes32


class Enrol(_FromClient, frozen=True, tag=15):
    """Sets the password with a first device, or proves it with a further one."""

    ref: U32
    password: Password


class ConfirmEnrolment(_FromClient, frozen=True, tag=16):
    """Shows that the one-time codes work; only then does the request go to the authority."""

    ref: U32
    code: OneTimeCode


class Adopt(_FromClient, frozen=True, tag=17):
    """Tells a restored relay where a log stands: the archive's record of it."""

    ref: U32
    log: Log
    last: U63
    epoch: U63
    context: Annotated[bytes, Meta(max_length=limits.STATEMENT_BYTES)]
    readers: Annotated[tuple[Name, ...], Meta(max_length=limits.MEMBERS)]


class Replay(_FromClient, frozen=True, tag=18):
    """Tells a restored relay a signed command or a certificate that was taken in at ``at_ms``.

    ``sequence`` is the command's number in the control log, 0 for a certificate: what the backup
    had is not done again. ``item`` is an inbox item: the octet says which of the two it is.
    """

    ref: U32
    at_ms: Time
    sequence: U63
    item: ItemBytes


class Resume(_FromClient, frozen=True, tag=19):
    """Ends the telling: the restored relay knows every log and order, and serves."""

    ref: U32


class Witness(_FromClient, frozen=True, tag=20):
    """Asks the relay to cosign the archive's checkpoint; an encoded C2SP add-checkpoint."""

    ref: U32
    request: Statement


class GetWitnessKey(_FromClient, frozen=True, tag=21):
    """Asks for the key that verifies the relay's cosignatures."""

    ref: U32


class Standing(_FromClient, frozen=True, tag=22):
    """Asks for the statements that stand, behind number ``after``; 0 for all of them."""

    ref: U32
    after: U63


class LookupCertificates(_FromClient, frozen=True, tag=23):
    """Asks for certificates by fingerprint: those that a proof or a statement names as signers'."""

    ref: U32
    fingerprints: Annotated[tuple[Bytes32, ...], Meta(max_length=limits.LOOKUP_DEVICES)]


class TestAlert(_FromClient, frozen=True, tag=24):
    """Asks to be rung as a page would, so that the person sees that it wakes them."""

    ref: U32


class AlertHeard(_FromClient, frozen=True, tag=25):
    """Says that the person has heard the test."""

    ref: U32


class GetReach(_FromClient, frozen=True, tag=26):
    """Asks whether people can be woken."""

    ref: U32
    users: Annotated[tuple[Name, ...], Meta(max_length=limits.LOOKUP_DEVICES)]


class Challenge(_FromRelay, frozen=True, tag=64):
    """What to sign; ``pin`` is SHA-256 of the relay's TLS public key, which the client compares."""

    version: U32
    nonce: Nonce
    pin: Bytes32


class Locked(_FromRelay, frozen=True, tag=65):
    """The connection key is proved: rings, unlock share and orders, no content."""


class Opened(_FromRelay, frozen=True, tag=66):
    """The device is proved: everything; ``token`` is for the attachment routes.

    ``last_id`` is the highest message id that the relay has seen of this device, 0 for none: new
    messages go on behind it.
    """

    token: Bytes32
    now_ms: Time
    last_id: U62


class Absent(_FromRelay, frozen=True, tag=67):
    """The device was away for long: password and one-time code first."""


class Ordered(_FromRelay, frozen=True, tag=68):
    """The device is revoked: its order and nothing else."""


class Enrolling(_FromRelay, frozen=True, tag=69):
    """The request is proved: enrolment, the certificate when it comes, and nothing else.

    ``root`` is the organisation's root certificate, whose fingerprint the invitation gave.
    """

    root: Statement


class Reconciling(_FromRelay, frozen=True, tag=82):
    """The relay was restored and serves nobody: the archive is asked for what it lacks."""


class Deliver(_FromRelay, frozen=True, tag=70):
    """One entry of a log; ``predecessor`` is the sequence before it, so that a hole shows.

    ``attention`` says how it may reach the person (see ``Attention``), ``until_ms`` until when it
    is held; 0 where it is not.
    """

    log: Log
    sequence: U62
    predecessor: U62
    at_ms: Time
    kind: U32
    body: bytes
    attention: U32 = Attention.ALERT
    until_ms: Time = 0


class Ring(_FromRelay, frozen=True, tag=71):
    """What a locked device may know of an entry: how urgent, for which role, and to answer where.

    ``step`` is how many steps a page has taken, ``reason`` a ``RingReason``.
    """

    priority: U32
    role: Name
    conversation: Annotated[bytes, Meta(max_length=32)]
    step: U32
    reason: U32


class Accepted(_FromRelay, frozen=True, tag=72):
    """These messages are on disk, at these sequence numbers of their conversations."""

    message_ids: tuple[U63, ...]
    sequences: tuple[U62, ...]


class RefusedMessage(_FromRelay, frozen=True, tag=73):
    """This message is not in its log."""

    message_id: U63
    code: U32
    detail: U63


class Done(_FromRelay, frozen=True, tag=74):
    """The request with this ``ref`` is done and on disk."""

    ref: U32


class Refused(_FromRelay, frozen=True, tag=75):
    """The request with this ``ref`` had no effect."""

    ref: U32
    code: U32
    detail: U63


class DirectoryEntry(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One device: its certificate proves everything that is said of it here."""

    device: Name
    certificate: Statement


class Directory(_FromRelay, frozen=True, tag=76):
    """The devices that were asked for; what is unknown is left out.

    Certificates that were asked for by fingerprint are given also where they are revoked, have
    expired or were renewed since: what they have signed is judged as of then.
    """

    ref: U32
    devices: tuple[DirectoryEntry, ...]


class KeyPackage(_FromRelay, frozen=True, tag=77):
    """One key package, claimed for this device alone unless it is the one of last resort."""

    ref: U32
    package: KeyPackageBytes


class Share(_FromRelay, frozen=True, tag=78):
    """The unlock share."""

    ref: U32
    share: Bytes32


class Provisioned(_FromRelay, frozen=True, tag=79):
    """The secret for one-time codes; empty where the person has one already."""

    ref: U32
    totp_secret: Annotated[bytes, Meta(max_length=64)]


class Ended(_FromRelay, frozen=True, tag=80):
    """This device's cursor on a log has ended: removed from it, or expired."""

    log: Log
    code: U32


class Behind(_FromRelay, frozen=True, tag=86):
    """This relay never gave the number that was acknowledged: it gives again what follows."""

    log: Log
    through: U63


class Close(_FromRelay, frozen=True, tag=81):
    """The connection ends."""

    code: U32
    detail: U63


class Cosigned(_FromRelay, frozen=True, tag=83):
    """The relay vouches for the checkpoint: its signature line, to stand below the note."""

    ref: U32
    signature: Statement


class WitnessKey(_FromRelay, frozen=True, tag=84):
    """The relay's verifier key as a witness: a C2SP vkey."""

    ref: U32
    key: Annotated[str, Meta(max_length=limits.VERIFIER_KEY_CHARACTERS)]


class StandingEntry(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A statement that stands, and when the relay took it in; later ones have higher numbers."""

    number: U62
    at_ms: Time
    statement: Statement


class Statements(_FromRelay, frozen=True, tag=85):
    """Statements that stand, in the order in which they came; ``more`` wait behind the last."""

    ref: U32
    entries: tuple[StandingEntry, ...]
    more: bool


class RingEnded(_FromRelay, frozen=True, tag=90):
    """A page no longer asks the device's person: it stops ringing for it."""

    conversation: Bytes32


class DeviceReach(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Whether a device can be woken; times are 0 where the relay does not know one."""

    device: Name
    connected: bool
    last_ms: Time
    tested_ms: Time


class Reach(_FromRelay, frozen=True, tag=91):
    """How the devices of those who were asked for can be reached."""

    ref: U32
    devices: tuple[DeviceReach, ...]


FRAMES: tuple[type[Frame], ...] = (
    Hello,
    Prove,
    Unlock,
    Authenticate,
    Append,
    AppendCommit,
    Post,
    Acknowledge,
    Lookup,
    PublishKeyPackages,
    ClaimKeyPackage,
    Command,
    StoreShare,
    GetShare,
    Enrol,
    ConfirmEnrolment,
    Adopt,
    Replay,
    Resume,
    Witness,
    GetWitnessKey,
    Standing,
    LookupCertificates,
    TestAlert,
    AlertHeard,
    GetReach,
    Challenge,
    Locked,
    Opened,
    Absent,
    Ordered,
    Enrolling,
    Reconciling,
    Deliver,
    Ring,
    Accepted,
    RefusedMessage,
    Done,
    Refused,
    Directory,
    KeyPackage,
    Share,
    Provisioned,
    Ended,
    Close,
    Cosigned,
    WitnessKey,
    Statements,
    Behind,
    RingEnded,
    Reach,
)
"""Every frame; ``docs/protocol.md`` is compared with it."""

FromClient = (
    Hello
    | Prove
    | Unlock
    | Authenticate
    | Append
    | AppendCommit
    | Post
    | Acknowledge
    | Lookup
    | PublishKeyPackages
    | ClaimKeyPackage
    | Command
    | StoreShare
    | GetShare
    | Enrol
    | ConfirmEnrolment
    | Adopt
    | Replay
    | Resume
    | Witness
    | GetWitnessKey
    | Standing
    | LookupCertificates
    | TestAlert
    | AlertHeard
    | GetReach
)
FromRelay = (
    Challenge
    | Locked
    | Opened
    | Absent
    | Ordered
    | Enrolling
    | Reconciling
    | Deliver
    | Ring
    | Accepted
    | RefusedMessage
    | Done
    | Refused
    | Directory
    | KeyPackage
    | Share
    | Provisioned
    | Ended
    | Behind
    | Close
    | Cosigned
    | WitnessKey
    | Statements
    | RingEnded
    | Reach
)

_encoder = msgspec.msgpack.Encoder()
_decoders: dict[Sender, msgspec.msgpack.Decoder[Frame]] = {
    Sender.CLIENT: msgspec.msgpack.Decoder(FromClient, strict=True),
    Sender.RELAY: msgspec.msgpack.Decoder(FromRelay, strict=True),
}
encode = _encoder.encode
"""Return the one encoding of a frame."""
encode_into = _encoder.encode_into
"""Write the one encoding of a frame into a ``bytearray``, from an offset on, where it then ends."""


def decode(data: bytes, *, sender: Sender) -> Frame:
    """Return the frame that ``sender`` encoded as ``data``.

    Raises:
        RemoteProtocolError: Too large, no frame of that side, a field over its limit, or another
            encoding than ``encode`` makes.
    """
    if len(data) > limits.FRAME_BYTES:
        raise RemoteProtocolError(Code.TOO_LARGE)
    try:
        frame = _decoders[sender].decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise RemoteProtocolError(Code.MALFORMED) from None
    if encode(frame) != data:
        raise RemoteProtocolError(Code.MALFORMED)
    return frame
