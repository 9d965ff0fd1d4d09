"""Judging the leaves of a Commit or a Welcome: pure; what must be asked of the relay is said.

A certificate's proof names its signers, and whoever does not know these cannot check it. So where
one is missing, the person whose device it is becomes *wanted*: the caller asks the relay's
directory for everybody of that kind, which brings the signers along, and judges again.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace

from crypto.certificate import decode_certificate, fingerprint
from crypto.errors import CryptoError, InvalidError
from crypto.identity import verify_standing_leaf, wanted_certificates
from crypto.mls.leaf_node import LeafNode
from crypto.statement import claimed_statement, statement_signers
from crypto.trust import DeviceIdentity, Revocations, Trust
from protocol.identifiers import DeviceId, UserName
from protocol.policy import Action, Policy


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Judge:
    """What a member holds true while it follows.

    Attributes:
        trust: Devices, and who is revoked.
        me: This device.
        policy: Which roles may do what.
    """

    trust: Trust
    me: DeviceId
    policy: Policy = field(default_factory=Policy)

    def as_of(self, at_ms: int) -> Trust:
        """Return the trust with the revocations of up to a time.

        A log is read later than it was written: a device that was well when it was added must
        count as that, or a reader who comes late would be parted from all others.
        """
        return self.trust.revoking(as_of(self.trust.revocations, at_ms))

    def may(self, leaf: LeafNode | None, action: Action) -> bool:
        """Tell whether the policy lets the device of a leaf do something; not one of strangers."""
        device = None if leaf is None else self.device_of(leaf)
        return device is not None and bool(device.roles & self.policy.roles_for(action))

    def device_of(self, leaf: LeafNode) -> DeviceIdentity | None:
        """Return whose leaf it is, where that was judged before."""
        (certificate,) = leaf.credential.certificates or (b"",)
        return self.trust.devices.get(fingerprint(certificate))


def as_of(revocations: Revocations, at_ms: int) -> Revocations:
    """Return the revocations that held at a time."""
    return replace(
        revocations,
        devices={name: time for name, time in revocations.devices.items() if time <= at_ms},
        certificates={one: time for one, time in revocations.certificates.items() if time <= at_ms},
    )


def made_ms(statement: bytes, trust: Trust, *, at_ms: int) -> int:
    """Return the first instant, at a time or after it, at which a statement can have been made.

    What is judged as of then and comes once is not passed over for ever by a device whose clock is
    behind: its own words seem to it to be older than its certificate. Nobody gains by it: against
    certificates that have ended, revocations and the statement's own end, later is stricter, and
    the authority dates a certificate when it signs it.

    Args:
        statement: Unverified.
        trust: The devices that are known.
        at_ms: When it was taken in, as far as this device's clock allows.

    Raises:
        DecodeError: The bytes are no statement.
    """
    signers = (trust.devices.get(one) for one in statement_signers(statement))
    began_ms = (signer.not_before_ms for signer in signers if signer is not None)
    return max(at_ms, claimed_statement(statement).issued_ms, *began_ms)


class Leaves:
    """Judges each leaf of one Commit or Welcome, as MLS asks, and remembers what it saw.

    Attributes:
        trust: With the devices that were judged well.
        seen: Devices that were not known before.
        wants: People whose devices must be looked up first.
    """

    def __init__(self, trust: Trust, *, entering_at_ms: int | None) -> None:
        """Begin with what is known; a time where leaves enter, None where they stand."""
        self.trust = trust
        self.seen: list[DeviceIdentity] = []
        self.wants: set[UserName] = set()
        self._at_ms = entering_at_ms
        self._standing = trust.revoking(Revocations())

    def __call__(self, leaf: LeafNode, replaced: LeafNode | None) -> None:
        """Judge one leaf.

        Raises:
            DecodeError: Its certificate is none.
            InvalidError: A rule is broken, which is named, or somebody is wanted.
            VerificationError: A signature does not verify.
        """
        certificates = leaf.credential.certificates
        self._want(certificates)
        # Who stands in a group is told by its receipt. A revoked one is removed before anything is
        # sent; refusing to come in would help nobody.
        trust = self._standing if self._at_ms is None else self.trust
        identity = verify_standing_leaf(certificates, signature_key=leaf.signature_key, trust=trust)
        if self._at_ms is not None:
            # The authority dates a certificate when it signs it: one that seems to be of the future
            # says that this device's clock is behind, and refusing it would part the device from
            # all others.
            at_ms = max(self._at_ms, identity.not_before_ms)
            if not identity.is_valid_at(at_ms):
                raise InvalidError("a leaf enters before its certificate ends (RFC 5280, 6.1.3)")
        if replaced is not None:
            before = self.trust.devices.get(fingerprint(replaced.credential.certificates[0]))
            if before is None or before.name != identity.name:
                raise InvalidError("a leaf stays its device's")
        self._know(identity)

    def _want(self, certificates: tuple[bytes, ...]) -> None:
        wanted = _wanted(certificates, self.trust)
        if wanted is not None:
            self.wants.add(wanted)
            raise InvalidError("a proof's signer is not known here")

    def _know(self, identity: DeviceIdentity) -> None:
        if identity.fingerprint not in self.trust.devices:
            self.seen.append(identity)
            self.trust = self.trust.knowing([identity])
            self._standing = self.trust.revoking(Revocations())


Authenticate = Callable[[LeafNode, LeafNode | None], None]


def everybody_wanted(trust: Trust, act: Callable[[Authenticate], object]) -> frozenset[UserName]:
    """Return everybody who must be looked up before a Commit or a Welcome can be judged.

    Judging ends with the first of them, and a group may have many: so all leaves are looked at
    once more. None of them is judged here, and what comes of the act is thrown away.

    Args:
        trust: What is known.
        act: Processes or joins, with what it is given to authenticate leaves by.
    """
    found: set[UserName] = set()

    def look(leaf: LeafNode, _: LeafNode | None) -> None:
        wanted = _wanted(leaf.credential.certificates, trust)
        if wanted is not None:
            found.add(wanted)

    with suppress(CryptoError):
        act(look)
    return frozenset(found)


def _wanted(certificates: tuple[bytes, ...], trust: Trust) -> UserName | None:
    """Return whose devices must be known before a leaf can be judged, None where all are."""
    if len(certificates) != 1 or fingerprint(certificates[0]) in trust.devices:
        return None
    if not wanted_certificates(certificates[0], trust=trust):
        return None
    return UserName(decode_certificate(certificates[0], root=trust.root).claim.user)
