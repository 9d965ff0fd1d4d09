"""This device's own keys in use: what it signs, key packages to publish, the next certificate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from client.book import Ask, Book
from client.errors import RefusedError
from client.link import Credentials
from client.store import Store
from crypto.certificate import (
    RENEWAL_MS,
    Root,
    decode_certificate,
    fingerprint,
)
from crypto.ed25519 import SigningKey
from crypto.enrolment import DeviceKeys, create_request
from crypto.errors import CryptoError
from crypto.identity import verify_entering_leaf
from crypto.mls import Capabilities, Credential, Group, KeyPackageSecrets, LeafContent
from crypto.mls.cipher_suite import X25519_CHACHA20POLY1305_SHA256_ED25519 as SUITE
from crypto.statement import (
    RULES,
    Purpose,
    Signatory,
    StatementType,
    countersign_statement,
    sign_statement,
)
from protocol import frames, limits
from protocol.errors import Code
from protocol.group_context import EXTENSION_TYPE
from protocol.identifiers import DeviceId, inbox_log
from protocol.inbox import Item, ItemKind

PACKAGES_LEAST = 50
"""Unused key packages below which more are made: half of what the relay keeps for a device."""

PACKAGE_DAYS = 30
"""How long a key package may be used, as long as anything waits in a log."""

ANEW_MS = 15 * 24 * 3600 * 1000
"""After how long, in ms, all key packages are replaced: the one of last resort may be used more
than once, and each holds the certificate of its day, which ends."""

REQUESTED_MS = 24 * 3600 * 1000
"""After how long, in ms, a certificate that has not come is asked for again."""

CERTIFICATE, ANEW_AT, REQUESTED_AT = "certificate", "last resort", "renewal asked"
GIVEN = "key packages given"
"""Settings: the newest certificate, when all key packages were made, when a renewal was asked for;
references of the key packages that the relay was given since they were made anew."""

_DAY_S = 24 * 3600
_HASH_BYTES = 32
_X509 = 2


@dataclass(slots=True, kw_only=True)
class Identity:
    """Who this device is, and what it signs with.

    Attributes:
        certificate: The newest one, DER.
    """

    device: DeviceId
    root: Root
    certificate: bytes = field(repr=False)
    signature_key: SigningKey = field(repr=False)
    connection_key: SigningKey = field(repr=False)

    @classmethod
    def of(cls, credentials: Credentials, *, store: Store, root: Root) -> Identity:
        """Return the identity of an open device."""
        assert credentials.signature_key is not None  # noqa: S101 - its store is open
        return cls(
            device=credentials.device,
            root=root,
            certificate=store.settings.get(CERTIFICATE) or credentials.certificate,
            signature_key=credentials.signature_key,
            connection_key=credentials.connection_key,
        )

    @property
    def content(self) -> LeafContent:
        """What this device's leaf says."""
        return LeafContent(
            credential=Credential.x509([self.certificate]),
            capabilities=Capabilities.of(SUITE, extensions=(EXTENSION_TYPE,), credentials=(_X509,)),
        )

    def renewed(self, group: Group) -> LeafContent | None:
        """Return what the leaf should say where it has an older certificate; else None."""
        for place, leaf in group.members:
            if place == group.own_leaf:
                own = leaf.credential.certificates
                return None if own == (self.certificate,) else self.content
        return None

    def signatory(self, purpose: Purpose) -> Signatory:
        """Return this device as a signer."""
        connection = purpose is Purpose.CONNECTION
        return Signatory(
            purpose=purpose,
            fingerprint=fingerprint(self.certificate),
            key=self.connection_key if connection else self.signature_key,
        )

    def sign(
        self,
        kind: StatementType,
        body: bytes,
        purpose: Purpose,
        *,
        now_ms: int,
        lifetime_ms: int | None = None,
    ) -> bytes:
        """Return a statement with this device's signature; it lives as long as its type may.

        Raises:
            UsageError: Such a statement does not begin with such a signer.
        """
        return sign_statement(
            kind,
            body,
            organisation=self.root.organisation,
            issued_ms=now_ms,
            lifetime_ms=lifetime_ms or RULES[kind].lifetime_ms,
            signatory=self.signatory(purpose),
        )

    def countersign(self, statement: bytes, purpose: Purpose, *, book: Book, now_ms: int) -> bytes:
        """Return a statement with this device's signature after those that it has.

        Raises:
            DecodeError: The bytes are no statement.
            InvalidError: It breaks a rule, which is named, or is complete.
            VerificationError: A signature does not verify.
            UsageError: No signer of this purpose is due.
        """
        return countersign_statement(
            statement,
            trust=book.trusted.trust,
            at_ms=now_ms,
            signatory=self.signatory(purpose),
        )

    def own_package(self, now_ms: int) -> KeyPackageSecrets:
        """Return a fresh key package with its secrets."""
        return KeyPackageSecrets.generate(
            SUITE,
            self.content,
            signer=self.signature_key,
            not_before_s=now_ms // 1000 - _DAY_S,
            not_after_s=now_ms // 1000 + PACKAGE_DAYS * _DAY_S,
        )


class KeyKeeping:
    """Key packages and the certificate, kept fresh.

    Attributes:
        on_certified: Told the next certificate, once it is in the store.
    """

    def __init__(self, store: Store, book: Book, identity: Identity) -> None:
        self._store = store
        self._book = book
        self._identity = identity
        self.on_certified: Callable[[bytes], None] = lambda _: None

    async def publish(self, ask: Ask, *, now_ms: int) -> None:
        """Publish key packages where few are left, and all of them anew when it is time.

        Raises:
            LostError: The connection ended.
        """
        made_ms = self._time(ANEW_AT)
        anew = now_ms - made_ms >= ANEW_MS
        given = [] if anew else self._left()
        if len(given) >= PACKAGES_LEAST:
            return
        made = [self._identity.own_package(now_ms) for _ in range(limits.KEY_PACKAGES - len(given))]
        resort = self._identity.own_package(now_ms) if anew else None
        # What is published has its secrets on the disk before.
        self._store.keys.add_packages(made, last_resort=resort)
        try:
            await self._give(made, resort, ask)
        except RefusedError as error:
            if error.code is not Code.QUOTA:
                return
            made = made[: error.detail]
            await self._give(made, resort, ask)
        self._note(given, made)
        if anew:
            self._set_time(ANEW_AT, now_ms)
            # One that was taken on its last day leads to a Welcome that may wait as long again.
            self._store.keys.expire_packages(now_ms // 1000 - PACKAGE_DAYS * _DAY_S)

    def _left(self) -> list[bytes]:
        """Return which of the key packages that the relay was given were not used yet."""
        kept = self._store.settings.get(GIVEN) or b""
        given = {kept[at : at + _HASH_BYTES] for at in range(0, len(kept), _HASH_BYTES)}
        return [one for one in self._store.keys.package_references() if one in given]

    def _note(self, given: Sequence[bytes], made: Sequence[KeyPackageSecrets]) -> None:
        fresh = [one.key_package.reference(one.suite) for one in made]
        self._store.settings.put(GIVEN, b"".join((*given, *fresh)))

    async def _give(
        self, made: Sequence[KeyPackageSecrets], resort: KeyPackageSecrets | None, ask: Ask
    ) -> None:
        packages = tuple(one.key_package.encode() for one in made)
        last = b"" if resort is None else resort.key_package.encode()
        # With a last resort all of it is new: what the relay has beside is out of date, or this
        # store cannot open it, as it has never published or has started over.
        await ask(
            lambda ref: frames.PublishKeyPackages(
                ref=ref, packages=packages, last_resort=last, replace=resort is not None
            )
        )

    def start_over(self) -> None:
        """Publish anew what the store has let go of, or what holds a certificate that has ended."""
        self._store.settings.put(ANEW_AT, None)

    async def renew(self, recorder: DeviceId | None, ask: Ask, *, now_ms: int) -> None:
        """Ask the authority for the next certificate, from half of the present one's time on.

        Raises:
            LostError: The connection ended.
        """
        identity = self._identity
        present = decode_certificate(identity.certificate, root=identity.root)
        asked_ms = self._time(REQUESTED_AT)
        if recorder is None or now_ms < present.not_before_ms + RENEWAL_MS:
            return
        if now_ms - asked_ms < REQUESTED_MS:
            return
        claim = present.claim
        request = create_request(
            DeviceKeys(
                user=claim.user,
                device=claim.device,
                signature_key=identity.signature_key,
                connection_key=identity.connection_key,
            ),
            organisation=identity.root.organisation,
            statement=present.proof.statement,
            binding=present.proof.binding,
            at_ms=now_ms,
        )
        item = Item(kind=ItemKind.REQUEST, body=request).encode()
        log = inbox_log(recorder)
        try:
            await ask(lambda ref: frames.Post(ref=ref, log=log, statement=item))
        except RefusedError:
            return
        self._set_time(REQUESTED_AT, now_ms)

    def certified(self, der: bytes, *, now_ms: int) -> bool:
        """Take the next certificate in; False for one that is not this device's."""
        identity = self._identity
        try:
            verify_entering_leaf(
                [der],
                signature_key=identity.signature_key.public_key,
                trust=self._book.trusted.trust,
                at_ms=now_ms,
            )
            claim = decode_certificate(der, root=identity.root).claim
        except CryptoError:
            return False
        present = decode_certificate(identity.certificate, root=identity.root)
        if claim != present.claim or der == identity.certificate:
            return False
        self._book.learn([der], now_ms=now_ms)
        self._store.settings.put(CERTIFICATE, der)
        identity.certificate = der
        self.start_over()
        self.on_certified(der)
        return True

    def _time(self, name: str) -> int:
        return int.from_bytes(self._store.settings.get(name) or b"", "big")

    def _set_time(self, name: str, now_ms: int) -> None:
        self._store.settings.put(name, now_ms.to_bytes(8, "big"))
