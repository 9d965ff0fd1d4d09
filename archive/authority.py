"""The authority: who has a certificate, who is revoked, and which wipe order gets its signature.

It decides by what it keeps, and time is a parameter. Every decision is on the disk, with what it
lets out, before this module returns: so an authority that is killed at any point has either decided
nothing, or hands in the same again. ``outgoing`` says what, and ``handed_in`` takes it off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from enum import Enum
from hashlib import sha256

from archive.authority_store import AuthorityStore, Outgoing, OutgoingKind, Wiping
from archive.errors import DamagedError
from crypto.certificate import (
    DAY_MS,
    RENEWAL_MS,
    decode_certificate,
    fingerprint,
    pin_root,
)
from crypto.ed25519 import SigningKey
from crypto.enrolment import (
    CertificateRequest,
    issue_certificate,
    renew_certificate,
    verify_request,
)
from crypto.errors import CryptoError, InvalidError, UsageError
from crypto.identity import admit
from crypto.invitation import Invitation, InvitationLink, create_link
from crypto.names import Role
from crypto.revocation import decode_revocations, encode_revocations
from crypto.statement import (
    Purpose,
    Signatory,
    StatementType,
    VerifiedStatement,
    claimed_statement,
    countersign_statement,
    sign_statement,
    verify_statement,
    verify_unfinished_statement,
)
from crypto.statement_types import RULES
from crypto.trust import DeviceIdentity, Revocations, Trust
from protocol.commands import (
    RemoveUser,
    SetLogPolicy,
    WipeOrder,
    check_signers,
    decode_command,
    decode_suspension,
    decode_wipe_order,
)
from protocol.suspending import gives_up

WIPE_INTERVAL_MS = 60 * 60 * 1000
"""Time, in ms, in which one administrator alone has one device wiped: a stolen administrator's
device destroys one, and is itself revoked before the second."""

LIST_AGE_MS = 30 * DAY_MS
"""Age in ms from which the revocation list is signed again: a third of its life."""

PUT_OFF_MOST = 1_000
"""Requests for certificates that wait for the right time: those of a day in a hospital of 30,000
devices. Whoever finds no room asks again: a device each day, a person by enrolling again."""

ROOT_CERTIFICATE, ROOT_KEY, LOG_POLICY = "root", "root key", "log policy"
"""Names of the authority's certificate, private key and last log policy among its secrets."""

MINUTE_MS = 60_000
"""Step of a new log's version of the log policy, in ms."""

_LEFT = "left/"
"""With a person's name: when an administrator signed that they leave."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """The relay, as an invitation names it.

    Attributes:
        host: Its DNS name or address.
        port: Its port.
        tls_pin: SHA-256 of its TLS key.
    """

    host: str
    port: int
    tls_pin: bytes


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Invited:
    """An invitation that was signed.

    Attributes:
        link: For the person alone.
        statement: What the relay carries.
    """

    link: InvitationLink = field(repr=False)
    statement: bytes


class Refusal(Enum):
    """Why an order of one administrator alone is not carried out; of two it is."""

    LIMIT = "another device was wiped within the hour"
    OFFICER = "an officer's device, and what it opens was not shared anew without it"


class Authority:
    """The authority of one organisation.

    Beside what each method names, all raise the archive's errors.
    """

    def __init__(self, store: AuthorityStore) -> None:
        """Begin with what ``store`` has.

        Raises:
            DamagedError: It is not what an authority wrote.
        """
        self._store = store
        root, seed = store.secret(ROOT_CERTIFICATE), store.secret(ROOT_KEY)
        if root is None or seed is None:
            raise DamagedError("authority")
        try:
            self.root = pin_root(root, organisation=fingerprint(root))
            self._key = SigningKey.from_seed(seed)
            self.trust = self._loaded()
        except CryptoError:
            raise DamagedError("authority") from None

    def _loaded(self) -> Trust:
        trust = admit(Trust(root=self.root), self._store.certificates())
        body, _ = self._store.revocations()
        return trust.revoking(Revocations() if body is None else decode_revocations(body))

    @property
    def signatory(self) -> Signatory:
        """As which the authority signs."""
        return Signatory(
            purpose=Purpose.AUTHORITY, fingerprint=self.root.organisation, key=self._key
        )

    # People and devices.

    def invite(
        self,
        user: str,
        roles: Iterable[Role],
        *,
        at: Address,
        now_ms: int,
        ends_ms: int | None = None,
    ) -> Invited:
        """Return an invitation for a person, on its way to the control log.

        Raises:
            InvalidError: A name, date or the address breaks its rule.
        """
        link = create_link(
            host=at.host, port=at.port, tls_pin=at.tls_pin, organisation=self.root.organisation
        )
        body = Invitation(
            invitation_key=link.key.public_key,
            user=user,
            roles=frozenset(roles),
            ends_ms=ends_ms,
        ).encode()
        statement = self.sign(StatementType.INVITATION, body, now_ms=now_ms)
        with self._store.transaction():
            self._store.add_outgoing(OutgoingKind.COMMAND, statement)
        return Invited(link=link, statement=statement)

    def certify(self, request: bytes, *, now_ms: int) -> bytes:
        """Return the certificate that answers a request, on its way to its device's inbox.

        A repeated request gets the first one's answer, and a device that asks anew soon after it
        was certified gets the certificate that it has: it may have lost it on the way.

        Raises:
            DecodeError: The bytes are no request, or hold no statement.
            InvalidError: A rule is broken, which is named.
            VerificationError: A signature does not verify.
        """
        name = sha256(request).digest()
        known = self._store.answer(name) or self._current(request, now_ms=now_ms)
        if known is None:
            return self._certify(request, name, now_ms=now_ms)
        with self._store.transaction():
            device = self.device_of(known).name
            self._store.add_outgoing(OutgoingKind.CERTIFICATE, known, device=device)
        return known

    def put_off(self, number: int, request: bytes) -> bool:
        """Keep a request until it is known what time it is; tell whether there is room for it.

        Args:
            number: Of its entry in the recorder's inbox.
            request: As it came.
        """
        kept = self._store.requests_put_off()
        if number not in kept and len(kept) >= PUT_OFF_MOST:
            return False
        self._store.put_off(number, request)
        return True

    def requests_put_off(self) -> dict[int, bytes]:
        """Return the requests that wait, by their numbers, oldest first."""
        return self._store.requests_put_off()

    def drop_put_off(self, number: int) -> None:
        """Forget a request that was answered or refused."""
        self._store.drop_put_off(number)

    def _current(self, request: bytes, *, now_ms: int) -> bytes | None:
        """Return the certificate of who asks, where it is not yet due to be renewed."""
        asked = verify_request(request, trust=self.trust, at_ms=now_ms)
        current = self._store.newest().get(f"{asked.claim.user}/{asked.claim.device}")
        if current is None:
            return None
        old = decode_certificate(current, root=self.root)
        same = (asked.claim, asked.statement, asked.binding) == (
            old.claim,
            old.proof.statement,
            old.proof.binding,
        )
        revoked = self.trust.revocations.since_ms(self.device_of(current)) is not None
        due = now_ms - old.not_before_ms >= RENEWAL_MS
        return current if same and not revoked and not due else None

    def _certify(self, request: bytes, name: bytes, *, now_ms: int) -> bytes:
        asked = verify_request(request, trust=self.trust, at_ms=now_ms)
        der = self._issue(request, asked, now_ms=now_ms)
        trust = admit(self.trust, [der])
        device = trust.devices[fingerprint(der)].name
        with self._store.transaction():
            self._store.add_certificate(device, der, request=name)
            self._store.add_outgoing(OutgoingKind.CERTIFICATE, der, device=device)
        self.trust = trust
        return der

    def _issue(self, request: bytes, asked: CertificateRequest, *, now_ms: int) -> bytes:
        device = f"{asked.claim.user}/{asked.claim.device}"
        current = self._store.newest().get(device)
        if current is None:
            left_ms = self._left_ms(asked.claim.user)
            if claimed_statement(asked.statement).issued_ms <= left_ms:
                raise InvalidError("nobody comes back by what let them in before they left")
            return issue_certificate(request, trust=self.trust, authority=self._key, at_ms=now_ms)
        return renew_certificate(
            request,
            current=current,
            roles=decode_certificate(current, root=self.root).roles,
            trust=self.trust,
            authority=self._key,
            at_ms=now_ms,
        )

    def _left_ms(self, user: str) -> int:
        """Return when a person was removed last, -1 for never."""
        return int(self._store.secret(_LEFT + user) or b"-1")

    def device_of(self, der: bytes) -> DeviceIdentity:
        """Return the device of a certificate of this authority's.

        Raises:
            UsageError: It never issued that one.
        """
        found = self.trust.devices.get(fingerprint(der))
        if found is None:
            raise UsageError("no certificate of this authority's")
        return found

    def certificates(self) -> dict[str, bytes]:
        """Return the newest certificate of every device, by its name."""
        return self._store.newest()

    def all_certificates(self) -> list[bytes]:
        """Return every certificate in the order in which they were issued."""
        return self._store.certificates()

    # Revocation.

    def revoke(self, devices: Iterable[str], *, now_ms: int) -> None:
        """Revoke devices; a new list is on its way, unless all of them were revoked before.

        Raises:
            InvalidError: A name is not ``user/device``.
        """
        revocations = self.trust.revocations
        for device in devices:
            revocations = revocations.with_device(device, at_ms=now_ms)
        if revocations != self.trust.revocations:
            with self._store.transaction():
                revocations = self._publish(revocations, now_ms=now_ms)
            self.trust = self.trust.revoking(revocations)

    def renew_list(self, *, now_ms: int) -> None:
        """Sign the revocation list anew where it is as old as ``LIST_AGE_MS``, or there is none."""
        body, signed_ms = self._store.revocations()
        if body is not None and now_ms - signed_ms < LIST_AGE_MS:
            return
        with self._store.transaction():
            revocations = self._publish(self.trust.revocations, now_ms=now_ms)
        self.trust = self.trust.revoking(revocations)

    def _publish(self, revocations: Revocations, *, now_ms: int) -> Revocations:
        """Keep the next list and let it out; inside a transaction."""
        following = replace(revocations, number=revocations.number + 1)
        body = encode_revocations(following)
        statement = self.sign(StatementType.REVOCATION_LIST, body, now_ms=now_ms)
        self._store.put_revocations(body, at_ms=now_ms)
        self._store.add_outgoing(OutgoingKind.COMMAND, statement)
        return following

    # Commands that others signed.

    def follow(
        self,
        statement: bytes,
        kind: StatementType,
        *,
        taken_ms: int,
        now_ms: int,
        is_replaced: Callable[[str], bool],
    ) -> Refusal | None:
        """Do what a statement in the control log asks of the authority; most ask nothing.

        Return why a wipe order was just refused, if it was.

        Args:
            statement: The entry's body.
            kind: What it is.
            taken_ms: When the relay took it in. A person who left is revoked by a command that
                expired while the authority was down: revoking is no harm. A wipe order counts now.
            now_ms: Now.
            is_replaced: Tells of an officer whether no share of theirs is needed any more.

        Raises:
            DecodeError: Its body is none of its type.
            InvalidError: It breaks a rule, which is named.
            VerificationError: A signature does not verify.
        """
        if kind is StatementType.WIPE_ORDER:
            return self._wipe(statement, now_ms=now_ms, is_replaced=is_replaced)
        if kind is StatementType.COMMAND:
            verified = verify_statement(statement, expected=kind, trust=self.trust, at_ms=taken_ms)
            command = decode_command(verified.body)
            if isinstance(command, RemoveUser):
                # An invitation that was not used yet lets nobody in any more; an earlier command
                # that is read later, as a relay may have it, revives none.
                left_ms = max(self._left_ms(command.user), verified.issued_ms)
                with self._store.transaction():
                    self._store.put_secret(_LEFT + command.user, str(left_ms).encode())
                self.revoke(self._devices_of(command.user), now_ms=now_ms)
        if kind is StatementType.SUSPENSION:
            verified = verify_statement(statement, expected=kind, trust=self.trust, at_ms=taken_ms)
            self._give_up(verified, now_ms=now_ms)
        return None

    def _give_up(self, verified: VerifiedStatement, *, now_ms: int) -> None:
        """Revoke a device that has signed that it is no more."""
        (signer, *_) = verified.signers
        if signer.purpose is Purpose.DEVICE and signer.identity is not None:
            name = signer.identity.name
            if gives_up(decode_suspension(verified.body), by=name):
                self.revoke([name], now_ms=now_ms)

    def _devices_of(self, user: str) -> list[str]:
        return sorted({d.name for d in self.trust.devices.values() if d.user == user})

    def _wipe(
        self, statement: bytes, *, now_ms: int, is_replaced: Callable[[str], bool]
    ) -> Refusal | None:
        """Countersign an order that lacks the authority's signature, or return why not.

        Raises:
            CryptoError: It is not what it should be.
        """
        name = sha256(statement).digest()
        if self._is_complete(statement, now_ms=now_ms) or self._store.wiping(name) is not None:
            return None
        verified = verify_unfinished_statement(
            statement, expected=StatementType.WIPE_ORDER, trust=self.trust, at_ms=now_ms
        ).statement
        order = decode_wipe_order(verified.body)
        target = self._check_meant(order)
        alone = len(verified.signers) == 1
        refusal = None
        if alone:
            refusal = self._refusal(target, now_ms=now_ms, is_replaced=is_replaced)
        self._decide(statement, order, granted=refusal is None, alone=alone, now_ms=now_ms)
        return refusal

    def _is_complete(self, statement: bytes, *, now_ms: int) -> bool:
        try:
            self._verified_order(statement, now_ms=now_ms)
        except InvalidError:
            return False
        return True

    def _verified_order(self, statement: bytes, *, now_ms: int) -> VerifiedStatement:
        return verify_statement(
            statement, expected=StatementType.WIPE_ORDER, trust=self.trust, at_ms=now_ms
        )

    def _check_meant(self, order: WipeOrder) -> DeviceIdentity:
        for device in self.trust.devices.values():
            if (device.name, device.connection_key) == (order.device, order.connection_key):
                return device
        raise InvalidError("an order names a device of this organisation and its connection key")

    def _refusal(
        self, target: DeviceIdentity, *, now_ms: int, is_replaced: Callable[[str], bool]
    ) -> Refusal | None:
        """Return why one administrator alone does not have a device wiped, or ``None``.

        An officer's device holds shares that no copy of is anywhere: until segments were shared
        anew without it, destroying it is for two administrators to answer for.
        """
        recent = self._store.wipings(since_ms=now_ms - WIPE_INTERVAL_MS)
        if {w.device for w in recent if w.alone and w.answer is not None} - {target.name}:
            return Refusal.LIMIT
        if Role.OFFICER in target.roles and not is_replaced(target.user):
            return Refusal.OFFICER
        return None

    def _decide(
        self, statement: bytes, order: WipeOrder, *, granted: bool, alone: bool, now_ms: int
    ) -> None:
        answer = None
        if granted:
            answer = countersign_statement(
                statement, trust=self.trust, at_ms=now_ms, signatory=self.signatory
            )
        wiping = Wiping(
            statement=sha256(statement).digest(),
            device=order.device,
            at_ms=now_ms,
            alone=alone,
            answer=answer,
        )
        revocations = self.trust.revocations
        with self._store.transaction():
            self._store.add_wiping(wiping)
            if answer is not None:
                self._store.add_outgoing(OutgoingKind.COMMAND, answer)
                revocations = revocations.with_device(order.device, at_ms=now_ms)
                revocations = self._publish(revocations, now_ms=now_ms)
        self.trust = self.trust.revoking(revocations)

    # Its signature, and what is on its way.

    def sign(self, kind: StatementType, body: bytes, *, now_ms: int) -> bytes:
        """Return a statement of the authority's that lives as long as its type allows.

        Raises:
            UsageError: The authority does not sign that type alone.
        """
        return sign_statement(
            kind,
            body,
            organisation=self.root.organisation,
            issued_ms=now_ms,
            lifetime_ms=RULES[kind].lifetime_ms,
            signatory=self.signatory,
        )

    def command(self, body: bytes, *, now_ms: int) -> None:
        """Sign a command's body; it is on its way to the control log."""
        statement = self.sign(StatementType.COMMAND, body, now_ms=now_ms)
        with self._store.transaction():
            self._store.add_outgoing(OutgoingKind.COMMAND, statement)

    def set_log_policy(
        self,
        log_key: str,
        witness_keys: Iterable[str],
        *,
        officer_keys: Iterable[str],
        now_ms: int,
    ) -> None:
        """Let every device know the log's key and its witnesses', unless it knows these already.

        Raises:
            InvalidError: A key is none.
        """
        keys, officers = tuple(sorted(witness_keys)), tuple(sorted(officer_keys))
        known = self._log_policy()
        version = 1
        if known is not None:
            if (known.log_key, known.witness_keys, known.officer_keys) == (log_key, keys, officers):
                return
            version = known.version + 1
            if known.log_key != log_key:
                # Where this archive and the relay were both set back, devices may know of later
                # ones, and take none back: none that was given before comes to the present minute.
                version = max(version, now_ms // MINUTE_MS)
        policy = SetLogPolicy(
            version=version, log_key=log_key, witness_keys=keys, officer_keys=officers
        )
        body = policy.encode()
        statement = self.sign(StatementType.COMMAND, body, now_ms=now_ms)
        with self._store.transaction():
            self._store.put_secret(LOG_POLICY, body)
            self._store.add_outgoing(OutgoingKind.COMMAND, statement)

    def _log_policy(self) -> SetLogPolicy | None:
        kept = self._store.secret(LOG_POLICY)
        if kept is None:
            return None
        known = decode_command(kept)
        if not isinstance(known, SetLogPolicy):
            raise DamagedError("authority")
        return known

    def outdo_log_policy(self, statement: bytes) -> None:
        """Let the log policy follow on one at the relay, of which a backup knew nothing.

        Args:
            statement: A command that stands there; only a later log policy changes anything.

        Raises:
            CryptoError: It is not what it should be.
        """
        at_ms = claimed_statement(statement).issued_ms
        verified = verify_statement(
            statement, expected=StatementType.COMMAND, trust=self.trust, at_ms=at_ms
        )
        told, known = decode_command(verified.body), self._log_policy()
        check_signers(told, [signer.purpose for signer in verified.signers])
        if not isinstance(told, SetLogPolicy) or known is None or told == known:
            return
        if told.version >= known.version:
            with self._store.transaction():
                later = replace(known, version=told.version + 1)
                self._store.put_secret(LOG_POLICY, later.encode())

    def repeat_log_policy(self, *, now_ms: int) -> None:
        """Sign the log policy anew unless something is on its way: an outage outlives a command."""
        body = self._store.secret(LOG_POLICY)
        if body is not None and not self._store.outgoing():
            self.command(body, now_ms=now_ms)

    def outgoing(self) -> list[Outgoing]:
        """Return what was decided and is not yet handed in, in the order of the decisions."""
        return self._store.outgoing()

    def signed_anew(self, outgoing: Outgoing, *, now_ms: int) -> Outgoing:
        """Return a command that the authority alone has signed as if it were decided now.

        It takes the other's place, which must be one that no relay can have taken.

        Raises:
            UsageError: The authority does not sign that type alone.
        """
        claimed = claimed_statement(outgoing.body)
        statement = self.sign(claimed.type, claimed.body, now_ms=now_ms)
        self._store.renew_outgoing(outgoing.number, statement)
        return replace(outgoing, body=statement)

    def handed_in(self, number: int) -> None:
        """Take something off that the relay has confirmed."""
        self._store.delete_outgoing(number)
