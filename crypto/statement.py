"""Signed statements: one envelope for all that administrators, officers, devices, authority sign.

Each statement has a type, which is signed with it and has fixed rules: who must sign, in which
order and as what, and how long it lives at most. Every signature covers the content, its signer,
the purpose, and all signatures before it.

A verifier without memory cannot see a replay. Whoever acts on a statement keeps its ``id`` until
``replay_until_ms`` and refuses an ``id`` that it has; later the statement has expired.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field
from enum import IntEnum

from crypto import codec, ed25519
from crypto.certificate import FINGERPRINT_BYTES, Root
from crypto.codec import Reader
from crypto.ed25519 import SigningKey
from crypto.errors import InvalidError, UsageError
from crypto.statement_types import PURPOSE_ROLES, RULES, Purpose, Rule, StatementType
from crypto.trust import CLOCK_SKEW_MS, DeviceIdentity, Trust

VERSION = 1
NONCE_BYTES = 16
"""Random bytes that make two statements of the same words two statements."""

STATEMENT_LABEL = b"Wardline 1.0 Statement"
"""Framed as RFC 9420, section 5.1.2 frames its labels, which all begin with ``MLS 1.0``: no
signature of one kind is one of the other, although a device makes both with one key."""

__all__ = [
    "NONCE_BYTES",
    "PURPOSE_ROLES",
    "RULES",
    "STATEMENT_LABEL",
    "VERSION",
    "ClaimedStatement",
    "CountersignedStatement",
    "OutcastStatement",
    "Purpose",
    "Rule",
    "Signatory",
    "Signer",
    "StatementType",
    "UnfinishedStatement",
    "VerifiedStatement",
    "claimed_statement",
    "countersign_statement",
    "labelled",
    "sign_statement",
    "statement_id",
    "statement_signers",
    "statement_type",
    "verify_countersigned_statement",
    "verify_outcast_statement",
    "verify_statement",
    "verify_unfinished_statement",
]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Signatory:
    """A signer's side: its key, the certificate that names it, and as what it signs.

    Attributes:
        purpose: As what it signs.
        fingerprint: Of its certificate; for the authority, of the root.
        key: The signature key, or for ``Purpose.CONNECTION`` the connection key.
    """

    purpose: Purpose
    fingerprint: bytes
    key: SigningKey = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Signer:
    """Who has signed a verified statement.

    Attributes:
        purpose: As what.
        fingerprint: Of the signer's certificate.
        identity: The device; ``None`` for the authority.
    """

    purpose: Purpose
    fingerprint: bytes
    identity: DeviceIdentity | None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class VerifiedStatement:
    """A statement whose type, organisation, time, signers and signatures are right.

    Attributes:
        type: What it is.
        id: SHA-256 of the content, the same whoever signs; the key of the replay memory.
        nonce: ``NONCE_BYTES`` random bytes, part of the content.
        issued_ms: When its first signer made it.
        expires_ms: When it ends.
        body: The type's own encoding.
        signers: In signing order, each another person (or the authority).
    """

    type: StatementType
    id: bytes
    nonce: bytes
    issued_ms: int
    expires_ms: int
    body: bytes
    signers: tuple[Signer, ...]

    @property
    def replay_until_ms(self) -> int:
        """How long whoever acts on it keeps its ``id``."""
        return self.expires_ms + CLOCK_SKEW_MS


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class UnfinishedStatement:
    """A statement that is right so far and lacks signatures: no licence to do what it says.

    For the next signer to read, and for what a first signature alone may cause (a wipe order's
    suspends). It is another class than ``VerifiedStatement`` so that it cannot pass for one.

    Attributes:
        statement: What has verified so far.
    """

    statement: VerifiedStatement


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class OutcastStatement:
    """A statement of a device that may be revoked or expired: it says something and gets nothing.

    Another class than ``VerifiedStatement``, so that no revoked device is let in by it.

    Attributes:
        statement: What has verified, but for the signer's standing.
    """

    statement: VerifiedStatement


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ClaimedStatement:
    """What a statement says of itself, with nothing verified: to be shown, never acted on.

    Another class than ``VerifiedStatement``, so that it cannot pass for one.

    Attributes:
        type: What it claims to be.
        id: SHA-256 of the content.
        issued_ms: When it says that its first signer made it.
        expires_ms: When it ends.
        body: The type's own encoding, as it came.
        purposes: As what its signers say that they have signed, in order.
    """

    type: StatementType
    id: bytes
    issued_ms: int
    expires_ms: int
    body: bytes
    purposes: tuple[Purpose, ...]

    @property
    def is_finished(self) -> bool:
        """Whether it has as many signatures as its type asks; it can have more with some types."""
        return self.purposes in RULES[self.type].forms


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class CountersignedStatement:
    """A statement that the authority has signed last; who signed before it is not asked here.

    Another class than ``VerifiedStatement``, so that nobody is granted anything by it.

    Attributes:
        id: As ``VerifiedStatement.id``.
        body: The type's own encoding.
    """

    id: bytes
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class _Signature:
    purpose: Purpose
    fingerprint: bytes
    signature: bytes

    def encode(self) -> bytes:
        return codec.u8(self.purpose) + self.fingerprint + self.signature


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class _Content:
    type: StatementType
    organisation: bytes
    nonce: bytes
    issued_ms: int
    expires_ms: int
    body: bytes

    @property
    def id(self) -> bytes:
        return hashlib.sha256(self.encode()).digest()

    def encode(self) -> bytes:
        return b"".join(
            (
                codec.u8(VERSION),
                codec.u16(self.type),
                self.organisation,
                self.nonce,
                codec.u64(self.issued_ms),
                codec.u64(self.expires_ms),
                codec.opaque(self.body),
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class _Statement:
    content: _Content
    signatures: tuple[_Signature, ...]

    def encode(self) -> bytes:
        return self.content.encode() + codec.vector(s.encode() for s in self.signatures)

    @property
    def purposes(self) -> tuple[Purpose, ...]:
        return tuple(signature.purpose for signature in self.signatures)


def labelled(label: bytes, content: bytes) -> bytes:
    """Return what is signed: ``opaque label<V>`` and ``opaque content<V>``.

    Source: RFC 9420, section 5.1.2, SignContent.
    """
    return codec.opaque(label) + codec.opaque(content)


def sign_statement(
    statement_type: StatementType,
    body: bytes,
    *,
    organisation: bytes,
    issued_ms: int,
    lifetime_ms: int,
    signatory: Signatory,
) -> bytes:
    """Return a new statement with its first signature.

    Args:
        statement_type: What it is.
        body: The type's own encoding.
        organisation: Fingerprint of the root, ``FINGERPRINT_BYTES`` bytes.
        issued_ms: Now.
        lifetime_ms: At most the type's.
        signatory: The first signer.

    Raises:
        UsageError: The type does not begin with such a signer, or lives less long.
    """
    if not 0 < lifetime_ms <= RULES[statement_type].lifetime_ms:
        raise UsageError("a statement lives at most as long as its type allows")
    if len(organisation) != FINGERPRINT_BYTES or issued_ms < 0:
        raise UsageError("a statement has an organisation's id and a time")
    content = _Content(
        type=statement_type,
        organisation=organisation,
        nonce=secrets.token_bytes(NONCE_BYTES),
        issued_ms=issued_ms,
        expires_ms=issued_ms + lifetime_ms,
        body=body,
    )
    return _signed(_Statement(content=content, signatures=()), signatory).encode()


def countersign_statement(
    unfinished: bytes, *, trust: Trust, at_ms: int, signatory: Signatory
) -> bytes:
    """Return the statement with one more signature, after verifying those that it has.

    The signer has read the body of ``verify_unfinished_statement``'s answer before.

    Raises:
        DecodeError: The bytes are no statement.
        InvalidError: It breaks a rule, which is named, or is complete.
        VerificationError: A signature does not verify.
        UsageError: No signer of this purpose is due.
    """
    statement = codec.decode(unfinished, "Statement", _read_statement)
    verify_unfinished_statement(
        unfinished, expected=statement.content.type, trust=trust, at_ms=at_ms
    )
    return _signed(statement, signatory).encode()


def verify_statement(
    data: bytes, *, expected: StatementType, trust: Trust, at_ms: int
) -> VerifiedStatement:
    """Return a complete statement, after checking everything that its type's rules ask.

    Every signer must be known to ``trust``, with a certificate that is valid and not yet revoked
    at ``at_ms``. For a statement that was acted on earlier, ``at_ms`` is the time of that.

    Args:
        data: The encoded statement.
        expected: The only type that the caller can use here.
        trust: The pinned root, known devices and revocations.
        at_ms: Now, or when a trusted log took the statement in.

    Raises:
        DecodeError: The bytes are no statement.
        InvalidError: It breaks a rule, which is named.
        VerificationError: A signature does not verify.
    """
    statement = codec.decode(data, "Statement", _read_statement)
    _check_complete(statement, expected=expected, trust=trust, at_ms=at_ms)
    return _verify_signatures(statement, trust, at_ms)


def verify_unfinished_statement(
    data: bytes, *, expected: StatementType, trust: Trust, at_ms: int
) -> UnfinishedStatement:
    """Return a statement that lacks its last signatures, after checking all that is there.

    Args and errors are those of ``verify_statement``.

    Raises:
        DecodeError: The bytes are no statement.
        InvalidError: It breaks a rule, which is named, or no signature can follow.
        VerificationError: A signature does not verify.
    """
    statement = codec.decode(data, "Statement", _read_statement)
    _check_content(statement.content, expected=expected, trust=trust, at_ms=at_ms)
    if not statement.purposes or not _continues(expected, statement.purposes):
        raise InvalidError("an unfinished statement is one that a signature can still follow")
    return UnfinishedStatement(statement=_verify_signatures(statement, trust, at_ms))


def verify_outcast_statement(
    data: bytes, *, expected: StatementType, trust: Trust, at_ms: int
) -> OutcastStatement:
    """Return a complete statement of a device whose revocation and dates are not asked after.

    A device is revoked before it carries out its wipe order, so its receipt comes from an
    outcast. Args and the other checks are those of ``verify_statement``, which whoever grants
    anything calls.

    Raises:
        DecodeError: The bytes are no statement.
        InvalidError: It breaks a rule, which is named.
        VerificationError: A signature does not verify.
        UsageError: An outcast has nothing to say by a statement of the expected type.
    """
    if not RULES[expected].outcast:
        raise UsageError("only a wipe receipt comes from an outcast")
    statement = codec.decode(data, "Statement", _read_statement)
    _check_complete(statement, expected=expected, trust=trust, at_ms=at_ms)
    return OutcastStatement(statement=_verify_signatures(statement, trust, None))


def claimed_statement(data: bytes) -> ClaimedStatement:
    """Return what a statement says of itself, unverified, for a person to read.

    Raises:
        DecodeError: The bytes are no statement.
    """
    statement = codec.decode(data, "Statement", _read_statement)
    content = statement.content
    return ClaimedStatement(
        type=content.type,
        id=content.id,
        issued_ms=content.issued_ms,
        expires_ms=content.expires_ms,
        body=content.body,
        purposes=statement.purposes,
    )


def verify_countersigned_statement(
    data: bytes, *, expected: StatementType, root: Root, at_ms: int
) -> CountersignedStatement:
    """Return a complete statement whose last signature is the authority's, and check that one.

    For a device that is locked: it has the root, and no certificate of anybody who signed before.
    The authority's signature covers theirs, and the authority verifies them before it signs
    (``countersign_statement``); neither the relay nor an administrator can make it.

    Args:
        data: The encoded statement.
        expected: The only type that the caller can use here.
        root: The pinned root.
        at_ms: Now.

    Raises:
        DecodeError: The bytes are no statement.
        InvalidError: It breaks a rule, which is named.
        VerificationError: The authority's signature does not verify.
    """
    statement = codec.decode(data, "Statement", _read_statement)
    trust = Trust(root=root)
    _check_complete(statement, expected=expected, trust=trust, at_ms=at_ms)
    *before, last = statement.signatures
    if last.purpose is not Purpose.AUTHORITY:
        raise InvalidError("a countersigned statement ends with the authority's signature")
    signer = _signer(last, trust)
    message = _signed_bytes(
        _Statement(content=statement.content, signatures=tuple(before)),
        purpose=last.purpose,
        fingerprint=last.fingerprint,
    )
    ed25519.verify(public_key=_key(signer, trust), message=message, signature=last.signature)
    return CountersignedStatement(id=statement.content.id, body=statement.content.body)


def statement_type(data: bytes) -> StatementType:
    """Return what a statement claims to be, unverified, so that the right reader is asked.

    Raises:
        DecodeError: The bytes are no statement.
    """
    return codec.decode(data, "Statement", _read_statement).content.type


def statement_signers(data: bytes) -> tuple[bytes, ...]:
    """Return the fingerprints of the certificates wanted for verifying, themselves unverified.

    Raises:
        DecodeError: The bytes are no statement.
    """
    statement = codec.decode(data, "Statement", _read_statement)
    return tuple(signature.fingerprint for signature in statement.signatures)


def statement_id(data: bytes) -> bytes:
    """Return the id that the statement has once verified, the same whoever signs.

    Raises:
        DecodeError: The bytes are no statement.
    """
    return codec.decode(data, "Statement", _read_statement).content.id


def _continues(expected: StatementType, purposes: tuple[Purpose, ...]) -> bool:
    """Say whether some permitted form goes on after ``purposes``."""
    size = len(purposes)
    forms = RULES[expected].forms
    return any(len(form) > size and form[:size] == purposes for form in forms)


def _signed(statement: _Statement, signatory: Signatory) -> _Statement:
    purposes = (*statement.purposes, signatory.purpose)
    forms = RULES[statement.content.type].forms
    if not any(form[: len(purposes)] == purposes for form in forms):
        raise UsageError("no signer of this purpose is due")
    message = _signed_bytes(statement, purpose=signatory.purpose, fingerprint=signatory.fingerprint)
    signature = _Signature(
        purpose=signatory.purpose,
        fingerprint=signatory.fingerprint,
        signature=signatory.key.sign(message),
    )
    return _Statement(content=statement.content, signatures=(*statement.signatures, signature))


def _signed_bytes(statement: _Statement, *, purpose: Purpose, fingerprint: bytes) -> bytes:
    """Return what the signer after ``statement``'s signatures signs."""
    return labelled(STATEMENT_LABEL, statement.encode() + codec.u8(purpose) + fingerprint)


def _check_complete(
    statement: _Statement, *, expected: StatementType, trust: Trust, at_ms: int
) -> None:
    _check_content(statement.content, expected=expected, trust=trust, at_ms=at_ms)
    if statement.purposes not in RULES[expected].forms:
        raise InvalidError("a statement has exactly the signatures that its type asks")


def _check_content(content: _Content, *, expected: StatementType, trust: Trust, at_ms: int) -> None:
    if content.type != expected:
        raise InvalidError("a statement of another type")
    if content.organisation != trust.root.organisation:
        raise InvalidError("a statement of another organisation")
    if not 0 < content.expires_ms - content.issued_ms <= RULES[expected].lifetime_ms:
        raise InvalidError("a statement lives at most as long as its type allows")
    if at_ms < content.issued_ms - CLOCK_SKEW_MS:
        raise InvalidError("a statement from the future")
    if at_ms > content.expires_ms + CLOCK_SKEW_MS:
        raise InvalidError("a statement that has expired")


def _verify_signatures(statement: _Statement, trust: Trust, at_ms: int | None) -> VerifiedStatement:
    """Check every signature; ``at_ms`` is ``None`` where a signer's standing does not count."""
    signers = []
    for index, signature in enumerate(statement.signatures):
        signer = _signer(signature, trust)
        if at_ms is not None:
            _check_standing(signer, trust, _judged_ms(statement, index, at_ms))
        before = _Statement(content=statement.content, signatures=statement.signatures[:index])
        message = _signed_bytes(
            before, purpose=signature.purpose, fingerprint=signature.fingerprint
        )
        key = _key(signer, trust)
        ed25519.verify(public_key=key, message=message, signature=signature.signature)
        signers.append(signer)
    people = {signer.identity.user if signer.identity else None for signer in signers}
    if len(people) != len(signers):
        raise InvalidError("a statement's signers are different people")
    content = statement.content
    return VerifiedStatement(
        type=content.type,
        id=content.id,
        nonce=content.nonce,
        issued_ms=content.issued_ms,
        expires_ms=content.expires_ms,
        body=content.body,
        signers=tuple(signers),
    )


def _judged_ms(statement: _Statement, index: int, at_ms: int) -> int:
    """Return as of when a signer's certificate counts.

    Under the authority's later signature it is the statement's issue, which the authority's clock
    has confirmed: a wipe order outlives the certificate of the administrator who signed it. Without
    it a stolen and revoked key could be dated back, so that only the verifier's own time counts.
    """
    later = statement.purposes[index + 1 :]
    return statement.content.issued_ms if Purpose.AUTHORITY in later else at_ms


def _signer(signature: _Signature, trust: Trust) -> Signer:
    """Find who is named, and check that it may sign as it says."""
    purpose, fingerprint = signature.purpose, signature.fingerprint
    if purpose is Purpose.AUTHORITY:
        if fingerprint != trust.root.organisation:
            raise InvalidError("the authority signs as the root")
        return Signer(purpose=purpose, fingerprint=fingerprint, identity=None)
    identity = trust.devices.get(fingerprint)
    if identity is None:
        raise InvalidError("a statement's signer is a known device")
    wanted = PURPOSE_ROLES.get(purpose)
    if wanted is not None and wanted not in identity.roles:
        raise InvalidError("a signer has the role in which it signs")
    return Signer(purpose=purpose, fingerprint=fingerprint, identity=identity)


def _check_standing(signer: Signer, trust: Trust, at_ms: int) -> None:
    """Check that a signer's certificate is valid and not revoked at ``at_ms``."""
    identity = signer.identity
    if identity is None:
        return  # the root does not expire, and nobody but itself could revoke it
    if not identity.is_valid_at(at_ms):
        raise InvalidError("a signer's certificate is valid when it signs")
    revoked_ms = trust.revocations.since_ms(identity)
    if revoked_ms is not None and revoked_ms <= at_ms:
        raise InvalidError("a signer is not revoked")


def _key(signer: Signer, trust: Trust) -> bytes:
    if signer.identity is None:
        return trust.root.public_key
    if signer.purpose is Purpose.CONNECTION:
        return signer.identity.connection_key
    return signer.identity.signature_key


def _read_enum(reader: Reader, value: int, kind: type[IntEnum]) -> int:
    if value not in set(kind):
        raise reader.fail()
    return value


def _read_content(reader: Reader) -> _Content:
    if reader.u8() != VERSION:
        raise reader.fail()
    return _Content(
        type=StatementType(_read_enum(reader, reader.u16(), StatementType)),
        organisation=reader.take(FINGERPRINT_BYTES),
        nonce=reader.take(NONCE_BYTES),
        issued_ms=reader.u64(),
        expires_ms=reader.u64(),
        body=reader.opaque(),
    )


def _read_signature(reader: Reader) -> _Signature:
    return _Signature(
        purpose=Purpose(_read_enum(reader, reader.u8(), Purpose)),
        fingerprint=reader.take(FINGERPRINT_BYTES),
        signature=reader.take(ed25519.SIGNATURE_BYTES),
    )


def _read_statement(reader: Reader) -> _Statement:
    return _Statement(content=_read_content(reader), signatures=reader.vector(_read_signature))
