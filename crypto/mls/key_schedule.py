"""The key schedule: from one epoch's secrets to the next (RFC 9420, section 8)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from crypto.codec import Opaque, Struct, opaque, u16
from crypto.errors import InvalidError
from crypto.mls.cipher_suite import CipherSuite
from crypto.mls.framing import AuthenticatedContent
from crypto.mls.proposal import PreSharedKeyID

MAX_PSKS = (1 << 16) - 1
"""Pre-shared keys of one epoch: their number is hashed as a ``uint16`` (RFC 9420, section 8.4)."""

FindPSK = Callable[[PreSharedKeyID], bytes | None]
"""Looks a pre-shared key up; None where it is not known."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class EpochSecrets(Struct):
    """What a member keeps of an epoch's secrets (RFC 9420, section 8, table 4).

    The ``encryption_secret`` is not here: it lives, and is consumed, in the secret tree.
    """

    init_secret: Opaque
    sender_data_secret: Opaque
    exporter_secret: Opaque
    external_secret: Opaque
    confirmation_key: Opaque
    membership_key: Opaque
    resumption_psk: Opaque
    epoch_authenticator: Opaque


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySchedule:
    """One epoch's whole key schedule; only ``secrets`` outlives the epoch's start."""

    joiner_secret: bytes = field(repr=False)
    welcome_secret: bytes = field(repr=False)
    encryption_secret: bytes = field(repr=False)
    secrets: EpochSecrets = field(repr=False)


def joiner_secret(
    suite: CipherSuite, *, init_secret: bytes, commit_secret: bytes, context: bytes
) -> bytes:
    """Return the secret that members derive and joiners are told (RFC 9420, section 8)."""
    extracted = suite.kdf.extract(init_secret, commit_secret)
    return suite.expand_with_label(extracted, "joiner", context, suite.hash_bytes)


def member_secret(suite: CipherSuite, joiner: bytes, psk_secret: bytes) -> bytes:
    """Return what joiner_secret and psk_secret give together (RFC 9420, section 8)."""
    return suite.kdf.extract(joiner, psk_secret)


def key_schedule(
    suite: CipherSuite, *, joiner: bytes, psk_secret: bytes, context: bytes
) -> KeySchedule:
    """Derive an epoch's secrets.

    Args:
        suite: The group's.
        joiner: The joiner_secret.
        psk_secret: As ``psk_secret`` below gives it.
        context: Encoding of the epoch's GroupContext.

    Source: RFC 9420, section 8.
    """
    member = member_secret(suite, joiner, psk_secret)
    epoch = suite.expand_with_label(member, "epoch", context, suite.hash_bytes)
    secrets, encryption_secret = epoch_secrets(suite, epoch)
    return KeySchedule(
        joiner_secret=joiner,
        welcome_secret=suite.derive_secret(member, "welcome"),
        encryption_secret=encryption_secret,
        secrets=secrets,
    )


def epoch_secrets(suite: CipherSuite, epoch_secret: bytes) -> tuple[EpochSecrets, bytes]:
    """Return what an epoch_secret gives, and the encryption_secret (RFC 9420, section 8)."""

    def derive(label: str) -> bytes:
        return suite.derive_secret(epoch_secret, label)

    kept = EpochSecrets(
        init_secret=derive("init"),
        sender_data_secret=derive("sender data"),
        exporter_secret=derive("exporter"),
        external_secret=derive("external"),
        confirmation_key=derive("confirm"),
        membership_key=derive("membership"),
        resumption_psk=derive("resumption"),
        epoch_authenticator=derive("authentication"),
    )
    return kept, derive("encryption")


def psk_secret(suite: CipherSuite, ids: Sequence[PreSharedKeyID], find: FindPSK) -> bytes:
    """Chain pre-shared keys into one secret; zeros where there are none.

    Raises:
        InvalidError: There are more than ``MAX_PSKS``, or a key is unknown. It is
            never derived from its name or left out.

    Source: RFC 9420, section 8.4.
    """
    if len(ids) > MAX_PSKS:
        raise InvalidError("more pre-shared keys than a uint16 counts (8.4)")
    zeros = bytes(suite.hash_bytes)
    secret = zeros
    for index, psk_id in enumerate(ids):
        key = find(psk_id)
        if key is None:
            raise InvalidError("pre-shared key is not known here (8.4)")
        label = psk_id.encode() + u16(index) + u16(len(ids))
        extracted = suite.kdf.extract(zeros, key)
        derived = suite.expand_with_label(extracted, "derived psk", label, suite.hash_bytes)
        secret = suite.kdf.extract(derived, secret)
    return secret


def welcome_key(suite: CipherSuite, welcome_secret: bytes) -> tuple[bytes, bytes]:
    """Return (key, nonce) of the encrypted GroupInfo (RFC 9420, section 12.4.3.1)."""
    key = suite.expand_with_label(welcome_secret, "key", b"", suite.aead.key_bytes)
    return key, suite.expand_with_label(welcome_secret, "nonce", b"", 12)


def exported_secret(
    suite: CipherSuite, exporter_secret: bytes, *, label: str, context: bytes, length: int
) -> bytes:
    """Return ``MLS-Exporter(label, context, length)`` (RFC 9420, section 8.5)."""
    secret = suite.derive_secret(exporter_secret, label)
    return suite.expand_with_label(secret, "exported", suite.hash(context), length)


_EXTERNAL_INIT = b"MLS 1.0 external init secret"


def external_init_send(suite: CipherSuite, external_pub: bytes) -> tuple[bytes, bytes]:
    """Return (kem_output, init_secret) for an external commit (RFC 9420, section 8.3).

    Raises:
        InvalidError: ``external_pub`` is malformed or of low order.
    """
    return suite.hpke.send_export(
        external_pub, info=b"", label=_EXTERNAL_INIT, length=suite.hash_bytes
    )


def external_init_receive(suite: CipherSuite, external_secret: bytes, kem_output: bytes) -> bytes:
    """Return the init_secret that an external commit brings (RFC 9420, section 8.3).

    Raises:
        InvalidError: ``kem_output`` is malformed or of low order.
    """
    private, public = suite.hpke.derive_key_pair(external_secret)
    return suite.hpke.receive_export(
        private, public, enc=kem_output, info=b"", label=_EXTERNAL_INIT, length=suite.hash_bytes
    )


def confirmed_transcript_hash(
    suite: CipherSuite, interim: bytes, commit: AuthenticatedContent
) -> bytes:
    """Return the transcript hash up to ``commit`` with its signature (RFC 9420, section 8.2)."""
    hashed = u16(commit.wire_format) + commit.content.encode() + opaque(commit.signature)
    return suite.hash(interim + hashed)


def interim_transcript_hash(suite: CipherSuite, confirmed: bytes, confirmation_tag: bytes) -> bytes:
    """Return the transcript hash with the commit's confirmation tag (RFC 9420, section 8.2)."""
    return suite.hash(confirmed + opaque(confirmation_tag))
