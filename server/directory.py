"""What the relay knows of an organisation: its devices, conversations, roles and policy.

Everything here is a fact in the store, read once at the start; a change is durable first and seen
afterwards. All of it came by certificate or signed statement, so the relay's word is never needed:
who asks gets the certificates themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import msgspec

from crypto.certificate import Root, fingerprint
from crypto.codec import decode
from crypto.identity import admit
from crypto.names import Role
from crypto.revocation import decode_revocations, encode_revocations
from crypto.trust import DeviceIdentity, Revocations, Trust
from crypto.witness import TreeHead
from protocol.commands import SetLogPolicy, WipeReceipt, decode_command
from protocol.frames import StandingEntry
from protocol.group_context import ConversationType, WardlineContext
from protocol.identifiers import (
    ConversationId,
    DeviceId,
    OrganisationId,
    RoleName,
    UserName,
)
from protocol.oncall.configuration import Configuration
from protocol.policy import Policy, read_policy
from server import oncall
from server.oncall import Duty
from server.store import Fact

DEVICE, CONTEXT, STAGED, ONE_TIME, LAST_RESORT = b"d", b"v", b"w", b"k", b"l"
HOLDERS, REPLAY, POLICY, REVOKED = b"r", b"q", b"p", b"x"
LOG_POLICY, TREE_HEAD, STANDING, SUPERSEDED, INVITATION = b"a", b"h", b"s", b"c", b"i"
PAGE, TESTED, RECEIPT, DELIVERED, OWED, HELD, MILD = b"g", b"t", b"e", b"b", b"y", b"n", b"m"
"""First octet of a fact's key: what it is."""


class DeviceFact(msgspec.Struct, frozen=True, array_like=True):
    """A device as it is stored; ``DeviceIdentity`` field by field, so that a start verifies none.

    Attributes:
        certificate: The newest certificate.
        seen_ms: When it last proved itself, to the day.
        suspended: Whether an administrator has suspended it.
    """

    certificate: bytes
    seen_ms: int
    suspended: bool
    user: str
    device: str
    roles: tuple[int, ...]
    serial: bytes
    fingerprint: bytes
    signature_key: bytes
    connection_key: bytes
    not_before_ms: int
    not_after_ms: int
    ends_ms: int | None
    origin: bytes


class StagedFact(msgspec.Struct, frozen=True, array_like=True):
    """A Commit that awaits its receipt; its number stands in the log's head.

    Attributes:
        committer: Who sent it.
        at_ms: When.
        commit_hash: SHA-256 of the Commit.
        context: The context that it sets; empty where it sets none.
        joins: Devices that it adds.
        leaves: Devices that it removes.
    """

    committer: str
    at_ms: int
    commit_hash: bytes
    context: bytes
    joins: tuple[str, ...]
    leaves: tuple[str, ...]

    def changed(self) -> tuple[DeviceId, ...]:
        """Return the devices whose cursors its verdict decides on."""
        return tuple(map(DeviceId, (*self.joins, *self.leaves)))


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Device:
    """A device of the directory.

    Attributes:
        identity: What its certificate says, verified.
        certificate: The certificate.
        seen_ms: When it last proved itself, to the day.
        suspended: Whether an administrator has suspended it.
    """

    identity: DeviceIdentity
    certificate: bytes
    seen_ms: int
    suspended: bool = False

    @property
    def id(self) -> DeviceId:
        """``user/device``."""
        return DeviceId(self.identity.name)

    def fact(self) -> Fact:
        """Return the device as it is stored."""
        return Fact(key=DEVICE + self.id.encode(), value=self.stored())

    def superseded_fact(self) -> Fact:
        """Return what is stored of the device under a certificate that was renewed."""
        return Fact(key=SUPERSEDED + self.identity.fingerprint, value=self.stored())

    def stored(self) -> bytes:
        """Return the value of a fact."""
        identity = self.identity
        value = DeviceFact(
            certificate=self.certificate,
            seen_ms=self.seen_ms,
            suspended=self.suspended,
            user=identity.user,
            device=identity.device,
            roles=tuple(sorted(identity.roles)),
            serial=identity.serial.to_bytes(20, "big"),
            fingerprint=identity.fingerprint,
            signature_key=identity.signature_key,
            connection_key=identity.connection_key,
            not_before_ms=identity.not_before_ms,
            not_after_ms=identity.not_after_ms,
            ends_ms=identity.ends_ms,
            origin=identity.origin,
        )
        return msgspec.msgpack.encode(value)


def _device(organisation: OrganisationId, value: bytes) -> Device:
    fact = msgspec.msgpack.decode(value, type=DeviceFact)
    identity = DeviceIdentity(
        organisation=organisation,
        user=fact.user,
        device=fact.device,
        roles=frozenset(Role(code) for code in fact.roles),
        serial=int.from_bytes(fact.serial, "big"),
        fingerprint=fact.fingerprint,
        signature_key=fact.signature_key,
        connection_key=fact.connection_key,
        not_before_ms=fact.not_before_ms,
        not_after_ms=fact.not_after_ms,
        ends_ms=fact.ends_ms,
        origin=fact.origin,
    )
    return Device(
        identity=identity,
        certificate=fact.certificate,
        seen_ms=fact.seen_ms,
        suspended=fact.suspended,
    )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Admission:
    """What a certificate would make true.

    Attributes:
        trust: With its device known.
        device: The device under the newest of its certificates.
        superseded: The device under the other one; ``None`` where there is no other.
    """

    trust: Trust
    device: Device
    superseded: Device | None = None


@dataclass(slots=True, repr=False)
class KeyPackages:
    """The key packages that a device has published.

    Attributes:
        one_time: By number, oldest first.
        last_resort: Given out where no other is left; empty where there is none.
    """

    one_time: dict[int, bytes] = field(default_factory=dict)
    last_resort: bytes = b""


@dataclass(slots=True, repr=False)
class Organisation:
    """One organisation, strictly apart from every other on the relay.

    Attributes:
        id: Fingerprint of its root.
        trust: Root, known devices and revocations.
        devices: By id; ``keep`` changes it.
        contexts: Of every conversation that has begun.
        staged: Commits that await their receipts.
        holders: Who may hold a role that can be paged.
        key_packages: By device.
        policy: Which roles may do what.
        log_policy: The archive's log and its witnesses; ``None`` before the authority named them.
        tree_heads: What the relay has cosigned last of each log, by origin.
        standing: The newest statement under each key of ``protocol.standing``.
        superseded: Devices under certificates that were renewed, by fingerprint: what they signed
            still counts, to the relay as to every client.
        duty: Who is on call for what, and who wants to be left in peace.
        pages: By conversation: when something is due, and where the page stands, as stored; of one
            that has ended nothing but that.
        tested: When a device's person last confirmed that it can wake them.
        invitations: By public key, as ``server.invitations`` keeps them.
        receipts: Which order each wiped device has carried out.
        mild: Devices that stand suspended by their person or a delegate, who may end it.
        owed: Number of the last command that a backup had, until the archive has told a restored
            relay what came after it; ``None`` where nothing is owed. Until then nobody is served.
        held: Devices and users against whom a restored relay refused a command: what of theirs
            comes into the directory is suspended, until an administrator restores it.
        delivered: Which order each such device has said to have.
        seen: Ids of statements that were acted on, until when they must be known.
        changes: Held while the directory changes, so that changes happen one after another.
    """

    id: OrganisationId
    trust: Trust
    devices: dict[DeviceId, Device] = field(default_factory=dict)
    contexts: dict[ConversationId, WardlineContext] = field(default_factory=dict)
    staged: dict[ConversationId, StagedFact] = field(default_factory=dict)
    holders: dict[RoleName, tuple[UserName, ...]] = field(default_factory=dict)
    key_packages: dict[DeviceId, KeyPackages] = field(default_factory=dict)
    policy: Policy = field(default_factory=Policy)
    log_policy: SetLogPolicy | None = None
    tree_heads: dict[str, TreeHead] = field(default_factory=dict)
    standing: dict[bytes, StandingEntry] = field(default_factory=dict)
    superseded: dict[bytes, Device] = field(default_factory=dict)
    duty: Duty = field(default_factory=lambda: Duty(configuration=Configuration()))
    pages: dict[ConversationId, bytes] = field(default_factory=dict)
    tested: dict[DeviceId, int] = field(default_factory=dict)
    invitations: dict[bytes, bytes] = field(default_factory=dict)
    receipts: dict[DeviceId, bytes] = field(default_factory=dict)
    mild: set[DeviceId] = field(default_factory=set)
    owed: int | None = None
    held: set[str] = field(default_factory=set)
    delivered: dict[DeviceId, bytes] = field(default_factory=dict)
    seen: dict[bytes, int] = field(default_factory=dict)
    changes: asyncio.Lock = field(default_factory=asyncio.Lock)
    # Asked for every name of a look-up and every device of a Commit: of thirty thousand devices
    # none but the person's, or the archive's, is looked at.
    _of_user: dict[str, dict[DeviceId, None]] = field(default_factory=dict)
    _recorders: dict[DeviceId, None] = field(default_factory=dict)

    def kind_of(self, conversation: ConversationId) -> ConversationType | None:
        """Return what a conversation is; also of one whose first Commit waits for its receipt."""
        context = self.contexts.get(conversation)
        if context is None:
            staged = self.staged.get(conversation)
            if staged is None or not staged.context:
                return None
            context = WardlineContext.decode(staged.context)
        return context.conversation_type

    def keep(self, device: Device) -> None:
        """Take a device in, or as it is from now on."""
        self.devices[device.id] = device
        self._of_user.setdefault(device.identity.user, {})[device.id] = None
        if Role.RECORDER in device.identity.roles:
            self._recorders[device.id] = None
        else:
            self._recorders.pop(device.id, None)

    def recorders(self) -> list[DeviceId]:
        """Return the archive's devices that stand."""
        return [one for one in self._recorders if not self.is_revoked(self.devices[one])]

    def held_back(self, staged: StagedFact) -> set[DeviceId]:
        """Return from whom a log is held back until a staged Commit's verdict.

        Never from the recorder: it needs the Commit to judge it.
        """
        return set(staged.changed()) - set(self.recorders())

    def of_user(self, user: str) -> list[Device]:
        """Return a user's devices that stand."""
        known = map(self.devices.__getitem__, self._of_user.get(user, ()))
        return [device for device in known if not self.is_revoked(device)]

    def of_certificate(self, name: bytes) -> Device | None:
        """Return the device of a certificate, as that says of it, by the certificate's fingerprint.

        Whatever has become of it: what it has signed is judged as of then.
        """
        identity = self.trust.devices.get(name)
        newest = None if identity is None else self.devices.get(DeviceId(identity.name))
        if newest is not None and newest.identity.fingerprint == name:
            return newest
        return self.superseded.get(name)

    def is_revoked(self, device: Device) -> bool:
        """Tell whether a device or its certificate is revoked."""
        return self.trust.revocations.since_ms(device.identity) is not None

    def has_ended(self, device: Device) -> bool:
        """Tell whether a device is revoked or suspended as it stands now."""
        return device.suspended or self.is_revoked(device)

    def admitted(self, certificate: bytes, *, now_ms: int) -> Admission:
        """Return what a certificate would make true; nothing changes yet.

        Raises:
            DecodeError: It is no certificate.
            InvalidError: It breaks a rule.
            VerificationError: A signature does not verify.
        """
        trust = admit(self.trust, [certificate])
        identity = trust.devices[fingerprint(certificate)]
        known = self.devices.get(DeviceId(identity.name))
        shown = Device(
            identity=identity,
            certificate=certificate,
            seen_ms=now_ms,
            suspended=not self.held.isdisjoint((identity.name, identity.user)),
        )
        if known is None:
            return Admission(trust=trust, device=shown)
        if certificate == known.certificate:
            return Admission(trust=trust, device=known)
        if identity.not_before_ms < known.identity.not_before_ms:
            return Admission(trust=trust, device=known, superseded=shown)
        renewed = replace(known, identity=identity, certificate=certificate)
        return Admission(trust=trust, device=renewed, superseded=known)

    def revoking(self, devices: Iterable[DeviceId], *, now_ms: int) -> Revocations:
        """Return the revocations with more devices."""
        revocations = self.trust.revocations
        for device in devices:
            revocations = revocations.with_device(device, at_ms=now_ms)
        return revocations


def revocations_fact(revocations: Revocations) -> Fact:
    """Return the revocations as they are stored."""
    return Fact(key=REVOKED, value=encode_revocations(revocations))


def context_fact(conversation: ConversationId, context: WardlineContext) -> Fact:
    """Return a conversation's context as it is stored."""
    return Fact(key=CONTEXT + conversation, value=context.encode())


def staged_fact(conversation: ConversationId, staged: StagedFact | None) -> Fact:
    """Return a staged Commit as it is stored, or its removal."""
    value = None if staged is None else msgspec.msgpack.encode(staged)
    return Fact(key=STAGED + conversation, value=value)


def tree_head_fact(origin: str, head: TreeHead) -> Fact:
    """Return what was cosigned last of a log as it is stored."""
    return Fact(key=TREE_HEAD + origin.encode(), value=head.size.to_bytes(8, "big") + head.root)


def standing_fact(key: bytes, entry: StandingEntry) -> Fact:
    """Return a statement that stands as it is stored."""
    return Fact(key=STANDING + key, value=msgspec.msgpack.encode(entry))


def owed_fact(through: int | None) -> Fact:
    """Return what the archive has yet to tell as it is stored, or that it has told all."""
    value = None if through is None else through.to_bytes(8, "big")
    return Fact(key=OWED, value=value)


def held_fact(name: str, *, held: bool) -> Fact:
    """Return that a device or user is held as it is stored, or that it no longer is."""
    return Fact(key=HELD + name.encode(), value=b"\x01" if held else None)


def receipt_fact(receipt: WipeReceipt, *, prefix: bytes) -> Fact:
    """Return as it is stored that a device has its order, or has carried it out."""
    return Fact(key=prefix + receipt.device.encode(), value=receipt.order)


def mild_fact(device: DeviceId, *, mild: bool) -> Fact:
    """Return whether a device's suspension is its person's or a delegate's as it is stored."""
    return Fact(key=MILD + device.encode(), value=b"\x01" if mild else None)


def one_time_key(device: DeviceId, number: int) -> bytes:
    """Return the fact's key of a one-time key package."""
    return ONE_TIME + number.to_bytes(8, "big") + device.encode()


def load(root: Root, facts: Mapping[bytes, bytes]) -> Organisation:
    """Return an organisation from its facts."""
    made = Organisation(id=OrganisationId(root.organisation), trust=Trust(root=root))
    for key, value in sorted(facts.items()):
        _READERS[key[:1]](made, key[1:], value)
    known = (*made.devices.values(), *made.superseded.values())
    made.trust = made.trust.knowing(device.identity for device in known)
    return made


def _load_device(made: Organisation, _key: bytes, value: bytes) -> None:
    made.keep(_device(made.id, value))


def _load_context(made: Organisation, key: bytes, value: bytes) -> None:
    made.contexts[ConversationId(key)] = WardlineContext.decode(value)


def _load_staged(made: Organisation, key: bytes, value: bytes) -> None:
    made.staged[ConversationId(key)] = msgspec.msgpack.decode(value, type=StagedFact)


def _load_one_time(made: Organisation, key: bytes, value: bytes) -> None:
    device = DeviceId(key[8:].decode())
    packages = made.key_packages.setdefault(device, KeyPackages())
    packages.one_time[int.from_bytes(key[:8], "big")] = value


def _load_last_resort(made: Organisation, key: bytes, value: bytes) -> None:
    made.key_packages.setdefault(DeviceId(key.decode()), KeyPackages()).last_resort = value


def _load_holders(made: Organisation, key: bytes, value: bytes) -> None:
    users = msgspec.msgpack.decode(value, type=tuple[str, ...])
    made.holders[RoleName(key.decode())] = tuple(map(UserName, users))


def _load_replay(made: Organisation, key: bytes, value: bytes) -> None:
    made.seen[key] = int.from_bytes(value, "big")


def _load_policy(made: Organisation, _key: bytes, value: bytes) -> None:
    made.policy = decode(value, "Policy", read_policy)


def _load_log_policy(made: Organisation, _key: bytes, value: bytes) -> None:
    command = decode_command(value)
    assert isinstance(command, SetLogPolicy)  # noqa: S101 - nothing else is stored under its key
    made.log_policy = command


def _load_tree_head(made: Organisation, key: bytes, value: bytes) -> None:
    made.tree_heads[key.decode()] = TreeHead(size=int.from_bytes(value[:8], "big"), root=value[8:])


def _load_standing(made: Organisation, key: bytes, value: bytes) -> None:
    made.standing[key] = msgspec.msgpack.decode(value, type=StandingEntry)


def _load_superseded(made: Organisation, key: bytes, value: bytes) -> None:
    made.superseded[key] = _device(made.id, value)


def _load_owed(made: Organisation, _key: bytes, value: bytes) -> None:
    made.owed = int.from_bytes(value, "big")


def _load_held(made: Organisation, key: bytes, _value: bytes) -> None:
    made.held.add(key.decode())


def _load_receipt(made: Organisation, key: bytes, value: bytes) -> None:
    made.receipts[DeviceId(key.decode())] = value


def _load_mild(made: Organisation, key: bytes, _value: bytes) -> None:
    made.mild.add(DeviceId(key.decode()))


def _load_delivered(made: Organisation, key: bytes, value: bytes) -> None:
    made.delivered[DeviceId(key.decode())] = value


def _load_revoked(made: Organisation, _key: bytes, value: bytes) -> None:
    made.trust = made.trust.revoking(decode_revocations(value))


def _load_plan(made: Organisation, _key: bytes, value: bytes) -> None:
    made.duty.configuration = oncall.load_plan(made.duty.configuration, value)


def _load_quiet(made: Organisation, key: bytes, value: bytes) -> None:
    made.duty.configuration = oncall.load_quiet(made.duty.configuration, key.decode(), value)


def _load_page(made: Organisation, key: bytes, value: bytes) -> None:
    made.pages[ConversationId(key)] = value


def _load_tested(made: Organisation, key: bytes, value: bytes) -> None:
    made.tested[DeviceId(key.decode())] = int.from_bytes(value, "big")


def _load_invitation(made: Organisation, key: bytes, value: bytes) -> None:
    made.invitations[key] = value


_READERS = {
    DEVICE: _load_device,
    CONTEXT: _load_context,
    STAGED: _load_staged,
    ONE_TIME: _load_one_time,
    LAST_RESORT: _load_last_resort,
    HOLDERS: _load_holders,
    REPLAY: _load_replay,
    POLICY: _load_policy,
    REVOKED: _load_revoked,
    LOG_POLICY: _load_log_policy,
    TREE_HEAD: _load_tree_head,
    STANDING: _load_standing,
    SUPERSEDED: _load_superseded,
    PAGE: _load_page,
    TESTED: _load_tested,
    oncall.PLAN: _load_plan,
    oncall.QUIET: _load_quiet,
    INVITATION: _load_invitation,
    RECEIPT: _load_receipt,
    OWED: _load_owed,
    HELD: _load_held,
    DELIVERED: _load_delivered,
    MILD: _load_mild,
}


def organisation_of(root: Root) -> OrganisationId:
    """Return the id of a root's organisation."""
    return OrganisationId(root.organisation)
