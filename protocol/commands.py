"""Bodies of the signed statements that the relay acts on or carries, each with one encoding.

Who must sign them is fixed by the statement's type (``crypto.statement``); what they change is
written here. An administrator's command is one of the ``Command`` classes behind a kind octet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import ClassVar

from crypto import codec
from crypto.codec import Reader
from crypto.errors import InvalidError
from crypto.names import read_text, write_text
from crypto.note import SignatureType, VerifierKey
from crypto.statement_types import Purpose
from protocol import limits
from protocol.authenticated_data import COUNTER_MAX, HASH_BYTES
from protocol.identifiers import (
    CONVERSATION_ID_BYTES,
    ConversationId,
    DeviceId,
    RoleName,
    UserName,
    conversation_id,
    device_id,
    role_name,
    user_name,
)
from protocol.oncall.commands import ROLE_COMMANDS, RoleCommand
from protocol.policy import Policy, read_policy


def _check_ascending(names: tuple[str, ...], *, check: Callable[[str], str]) -> None:
    for name in names:
        check(name)
    if list(names) != sorted(set(names)) or len(names) > limits.MEMBERS:
        raise InvalidError("a list of names is ascending, without repeats, at most MEMBERS")


def _check_shown(text: str, *, most_bytes: int) -> None:
    # What is not printable could pass one name off as another, or command a terminal.
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise InvalidError("a text is Unicode without surrogates") from None
    if size > most_bytes or not text.isprintable() or text != text.strip():
        raise InvalidError("a name that is shown is printable, without blanks around it, and short")


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveUser:
    """A person leaves: all of their devices are revoked, their account is deleted."""

    KIND: ClassVar[int] = 1
    user: UserName

    def __post_init__(self) -> None:
        user_name(self.user)

    def encode(self) -> bytes:
        """Return the command's encoding."""
        return codec.u8(self.KIND) + write_text(self.user)

    @property
    def standing(self) -> str:
        """Stands for this person: the name is not given again."""
        return self.user


@dataclass(frozen=True, slots=True, kw_only=True)
class ResetAccount:
    """A person sets password and one-time codes anew with the next proof of a device."""

    KIND: ClassVar[int] = 2
    user: UserName

    def __post_init__(self) -> None:
        user_name(self.user)

    def encode(self) -> bytes:
        """Return the command's encoding."""
        return codec.u8(self.KIND) + write_text(self.user)

    @property
    def standing(self) -> None:
        """Stands for nothing: it is done with once it was done."""
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class SetPolicy:
    """The organisation's policy from now on; its version is the next one."""

    KIND: ClassVar[int] = 3
    policy: Policy

    def encode(self) -> bytes:
        """Return the command's encoding."""
        return codec.u8(self.KIND) + self.policy.encode()

    @property
    def standing(self) -> str:
        """Stands until the next policy."""
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetHolders:
    """Who may hold a role that can be paged, ascending; none deletes the role."""

    KIND: ClassVar[int] = 4
    role: RoleName
    users: tuple[UserName, ...]

    def __post_init__(self) -> None:
        role_name(self.role)
        _check_ascending(self.users, check=user_name)

    def encode(self) -> bytes:
        """Return the command's encoding."""
        users = codec.vector(map(write_text, self.users))
        return codec.u8(self.KIND) + write_text(self.role) + users

    @property
    def standing(self) -> str:
        """Stands until the role has other holders."""
        return self.role


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeMembers:
    """A conversation's members are to change; a member's Commit cites this and does it."""

    KIND: ClassVar[int] = 5
    conversation: ConversationId
    added: tuple[UserName, ...]
    removed: tuple[UserName, ...]

    def __post_init__(self) -> None:
        conversation_id(self.conversation)
        for users in (self.added, self.removed):
            _check_ascending(users, check=user_name)

    def encode(self) -> bytes:
        """Return the command's encoding."""
        added = codec.vector(map(write_text, self.added))
        removed = codec.vector(map(write_text, self.removed))
        return codec.u8(self.KIND) + self.conversation + added + removed

    @property
    def standing(self) -> None:
        """Stands for nothing: the Commit that cites it has done it."""
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class SetPerson:
    """How a person is called and where they work, for the directory.

    Attributes:
        user: The person.
        display_name: Full name and title as colleagues say it, printable, 1 to
            ``DISPLAY_NAME_BYTES`` bytes of UTF-8.
        ward: Ward or department, printable, at most ``WARD_BYTES``; empty where there is none.
    """

    KIND: ClassVar[int] = 7
    user: UserName
    display_name: str = field(repr=False)
    ward: str = field(repr=False)

    def __post_init__(self) -> None:
        user_name(self.user)
        _check_shown(self.display_name, most_bytes=limits.DISPLAY_NAME_BYTES)
        _check_shown(self.ward, most_bytes=limits.WARD_BYTES)
        if not self.display_name:
            raise InvalidError("a person is called something")

    def encode(self) -> bytes:
        """Return the command's encoding."""
        shown = (codec.opaque(text.encode()) for text in (self.display_name, self.ward))
        return codec.u8(self.KIND) + write_text(self.user) + b"".join(shown)

    @property
    def standing(self) -> str:
        """Stands until the person is called something else."""
        return self.user


@dataclass(frozen=True, slots=True, kw_only=True)
class SetDelegate:
    """Whose people on call may suspend the devices of a ward's people, day and night.

    Attributes:
        ward: As it stands in ``SetPerson``; not empty.
        role: Whoever answers for it is the delegate; ``None`` where there is none any more.
    """

    KIND: ClassVar[int] = 9
    ward: str
    role: RoleName | None

    def __post_init__(self) -> None:
        _check_shown(self.ward, most_bytes=limits.WARD_BYTES)
        if not self.ward:
            raise InvalidError("a delegate is a ward's")
        if self.role is not None:
            role_name(self.role)

    def encode(self) -> bytes:
        """Return the command's encoding."""
        return codec.u8(self.KIND) + codec.opaque(self.ward.encode()) + write_text(self.role or "")

    @property
    def standing(self) -> str:
        """Stands until the ward has another delegate."""
        return self.ward.encode().hex()


@dataclass(frozen=True, slots=True, kw_only=True)
class SetLogPolicy:
    """The archive's log and its witnesses, as every device is to know them; the authority's alone.

    The quorum stands in the two lists: a checkpoint counts with a cosignature by one of
    ``witness_keys``. No number of officers' cosignatures takes its place, and none is waited for.

    Attributes:
        version: Counts up with every change, from 1.
        log_key: The log's verifier key, a C2SP vkey; its name is the log's origin.
        witness_keys: Verifier keys of the relay, ascending.
        officer_keys: Verifier keys of officers' devices as witnesses, ascending.
    """

    KIND: ClassVar[int] = 6
    version: int
    log_key: str
    witness_keys: tuple[str, ...]
    officer_keys: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.version <= COUNTER_MAX:
            raise InvalidError("a log policy's version is 1 to 2^64 - 1")
        _check_keys(self.witness_keys, most=limits.WITNESS_KEYS)
        _check_keys(self.officer_keys, most=limits.OFFICER_WITNESSES)
        keys = (*self.witness_keys, *self.officer_keys)
        if len(set(keys)) != len(keys):
            raise InvalidError("a witness's key stands in one of the two lists")
        for key in (self.log_key, *keys):
            if not key.isascii() or len(key) > limits.VERIFIER_KEY_CHARACTERS:
                raise InvalidError("a verifier key is ASCII of VERIFIER_KEY_CHARACTERS at most")
        kinds = {VerifierKey.decode(key).kind for key in keys}
        if self.log.kind is not SignatureType.ED25519 or kinds - {SignatureType.COSIGNATURE}:
            raise InvalidError("a log signs notes, a witness cosigns them")

    @property
    def log(self) -> VerifierKey:
        """The log's key."""
        return VerifierKey.decode(self.log_key)

    @property
    def witnesses(self) -> tuple[VerifierKey, ...]:
        """The keys of whom one must have cosigned."""
        return tuple(map(VerifierKey.decode, self.witness_keys))

    def encode(self) -> bytes:
        """Return the command's encoding, which ends before ``officer_keys`` where there are none.

        So it was before officers' devices were witnesses: what stands on disks is read as before.
        """
        keys = [self.witness_keys, self.officer_keys] if self.officer_keys else [self.witness_keys]
        written = b"".join(codec.vector(map(write_text, some)) for some in keys)
        return codec.u8(self.KIND) + codec.u64(self.version) + write_text(self.log_key) + written

    @property
    def standing(self) -> str:
        """Stands until the next log policy."""
        return ""


def _check_keys(keys: tuple[str, ...], *, most: int) -> None:
    if list(keys) != sorted(set(keys)) or len(keys) > most:
        raise InvalidError("witnesses' keys are ascending, without repeats, and not too many")


Command = (
    RemoveUser
    | ResetAccount
    | SetPolicy
    | SetHolders
    | ChangeMembers
    | SetLogPolicy
    | SetPerson
    | SetDelegate
    | RoleCommand
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspension:
    """Devices are suspended, or suspended no longer.

    Attributes:
        devices: Ascending.
        lifted: Whether the suspension ends.
    """

    devices: tuple[DeviceId, ...]
    lifted: bool

    def __post_init__(self) -> None:
        _check_ascending(self.devices, check=device_id)

    def encode(self) -> bytes:
        """Return the statement's body."""
        return codec.u8(self.lifted) + codec.vector(map(write_text, self.devices))


class WipeReason(IntEnum):
    """Why a device is to destroy what it holds; what is done is the same."""

    LOST = 1
    STOLEN = 2
    DISPOSED = 3
    """Sold, given away, sent for repair."""
    LEFT = 4
    """The person no longer works here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WipeOrder:
    """A device is to destroy what it holds.

    Attributes:
        device: The device.
        connection_key: Its connection key, so that no later device of the same name is meant.
        reason: Why; it is in the control log and in the proof.
    """

    device: DeviceId
    connection_key: bytes
    reason: WipeReason

    def __post_init__(self) -> None:
        device_id(self.device)
        if len(self.connection_key) != HASH_BYTES:
            raise InvalidError("a connection key has 32 bytes")

    def encode(self) -> bytes:
        """Return the statement's body."""
        return write_text(self.device) + self.connection_key + codec.u8(self.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class WipeReceipt:
    """What a device says of its wipe: that it has its order, or that all is destroyed.

    Attributes:
        device: The device.
        order: The id of the order that it follows.
    """

    device: DeviceId
    order: bytes

    def __post_init__(self) -> None:
        device_id(self.device)
        if len(self.order) != HASH_BYTES:
            raise InvalidError("an order's id has 32 bytes")

    def encode(self) -> bytes:
        """Return the statement's body."""
        return write_text(self.device) + self.order


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitVerdict:
    """The body of an epoch's receipt, and of the void of a Commit.

    Attributes:
        conversation: The conversation.
        sequence: The Commit's number in its log.
        epoch: The epoch that the Commit begins.
        commit_hash: SHA-256 of the Commit as it stands in the log.
        confirmed_transcript_hash: Of the new epoch, in a receipt; zeros in a void.
    """

    conversation: ConversationId
    sequence: int
    epoch: int
    commit_hash: bytes
    confirmed_transcript_hash: bytes

    def __post_init__(self) -> None:
        conversation_id(self.conversation)
        if not (0 < self.sequence <= COUNTER_MAX and 0 < self.epoch <= COUNTER_MAX):
            raise InvalidError("sequence and epoch are 1 to 2^64 - 1")
        if (len(self.commit_hash), len(self.confirmed_transcript_hash)) != (HASH_BYTES,) * 2:
            raise InvalidError("a hash has 32 bytes")

    def encode(self) -> bytes:
        """Return the statement's body."""
        return b"".join(
            (
                self.conversation,
                codec.u64(self.sequence),
                codec.u64(self.epoch),
                self.commit_hash,
                self.confirmed_transcript_hash,
            )
        )


def decode_command(body: bytes) -> Command:
    """Return the administrator's command in a ``COMMAND`` statement's body.

    Raises:
        DecodeError: The bytes are no encoding of one.
        InvalidError: A name, an order or a right breaks its rule.
    """
    return codec.decode(body, "Command", _read_command)


def check_signers(command: Command, purposes: Sequence[Purpose]) -> None:
    """Refuse a command whose signers may not give it, whatever else they may.

    Args:
        command: The body of a verified statement.
        purposes: As what its signers signed, in their order.

    Raises:
        InvalidError: It is the authority's alone, and somebody else signed it.
    """
    if isinstance(command, SetLogPolicy) and list(purposes) != [Purpose.AUTHORITY]:
        raise InvalidError("the log policy is the authority's")


def decode_suspension(body: bytes) -> Suspension:
    """Return the body of a ``SUSPENSION`` statement.

    Raises:
        DecodeError: The bytes are no encoding of it.
        InvalidError: A name or the order breaks its rule.
    """
    return codec.decode(body, "Suspension", _read_suspension)


def decode_wipe_order(body: bytes) -> WipeOrder:
    """Return the body of a ``WIPE_ORDER`` statement.

    Raises:
        DecodeError: The bytes are no encoding of it.
        InvalidError: The device's name breaks its rule.
    """
    return codec.decode(body, "WipeOrder", _read_wipe_order)


def decode_wipe_receipt(body: bytes) -> WipeReceipt:
    """Return the body of a ``WIPE_DELIVERY`` or ``WIPE_RECEIPT`` statement.

    Raises:
        DecodeError: The bytes are no encoding of it.
        InvalidError: The device's name breaks its rule.
    """
    return codec.decode(
        body,
        "WipeReceipt",
        lambda reader: WipeReceipt(
            device=DeviceId(read_text(reader)), order=reader.take(HASH_BYTES)
        ),
    )


def decode_verdict(body: bytes) -> CommitVerdict:
    """Return the body of an ``EPOCH_RECEIPT`` or ``VOID`` statement.

    Raises:
        DecodeError: The bytes are no encoding of it.
        InvalidError: A number is out of range.
    """
    return codec.decode(body, "CommitVerdict", _read_verdict)


def _read_user(reader: Reader) -> UserName:
    return UserName(read_text(reader))


def _read_shown(reader: Reader) -> str:
    try:
        return reader.opaque().decode()
    except UnicodeDecodeError:
        raise reader.fail() from None


def _read_device(reader: Reader) -> DeviceId:
    return DeviceId(read_text(reader))


def _read_conversation(reader: Reader) -> ConversationId:
    return ConversationId(reader.take(CONVERSATION_ID_BYTES))


def _read_officer_keys(reader: Reader) -> tuple[str, ...]:
    """Read the last field of a log policy, which is not there where it is empty."""
    if reader.pos == reader.end:
        return ()
    keys = reader.vector(read_text)
    if not keys:
        raise reader.fail()
    return keys


_COMMANDS: dict[int, Callable[[Reader], Command]] = {
    RemoveUser.KIND: lambda reader: RemoveUser(user=_read_user(reader)),
    ResetAccount.KIND: lambda reader: ResetAccount(user=_read_user(reader)),
    SetPolicy.KIND: lambda reader: SetPolicy(policy=read_policy(reader)),
    SetHolders.KIND: lambda reader: SetHolders(
        role=RoleName(read_text(reader)), users=reader.vector(_read_user)
    ),
    ChangeMembers.KIND: lambda reader: ChangeMembers(
        conversation=_read_conversation(reader),
        added=reader.vector(_read_user),
        removed=reader.vector(_read_user),
    ),
    SetLogPolicy.KIND: lambda reader: SetLogPolicy(
        version=reader.u64(),
        log_key=read_text(reader),
        witness_keys=reader.vector(read_text),
        officer_keys=_read_officer_keys(reader),
    ),
    SetPerson.KIND: lambda reader: SetPerson(
        user=_read_user(reader), display_name=_read_shown(reader), ward=_read_shown(reader)
    ),
    SetDelegate.KIND: lambda reader: SetDelegate(
        ward=_read_shown(reader), role=RoleName(read_text(reader)) or None
    ),
    **{kind.KIND: kind.read for kind in ROLE_COMMANDS},
}


def _read_command(reader: Reader) -> Command:
    read = _COMMANDS.get(reader.u8())
    if read is None:
        raise reader.fail()
    return read(reader)


def _read_suspension(reader: Reader) -> Suspension:
    lifted = reader.u8()
    if lifted > 1:
        raise reader.fail()
    return Suspension(lifted=bool(lifted), devices=reader.vector(_read_device))


def _read_wipe_order(reader: Reader) -> WipeOrder:
    device, connection_key = _read_device(reader), reader.take(HASH_BYTES)
    try:
        reason = WipeReason(reader.u8())
    except ValueError:
        raise reader.fail() from None
    return WipeOrder(device=device, connection_key=connection_key, reason=reason)


def _read_verdict(reader: Reader) -> CommitVerdict:
    return CommitVerdict(
        conversation=_read_conversation(reader),
        sequence=reader.u64(),
        epoch=reader.u64(),
        commit_hash=reader.take(HASH_BYTES),
        confirmed_transcript_hash=reader.take(HASH_BYTES),
    )
