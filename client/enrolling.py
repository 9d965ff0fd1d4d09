"""Enrolment: from an invitation, or from another device's grant, to a profile that opens.

1. The invitation is fetched from the relay by its key. A further device has its grant already.
2. The profile is made, with the device's keys and the certificate request in its store. The share
   lies beside it, in ``enrolling``, because the relay takes it only from a certified device: until
   the end a thief of the disk can try PINs against it.
3. Password and one-time code. From here the authority has the request.
4. The certificate comes by the inbox, with the root, whose fingerprint the invitation gave.
5. The relay keeps the share, and gets key packages whose secrets are in the store: from here others
   can write to the person, who has them when the program is first started.
6. ``enrolling`` is destroyed, and the profile is one like any other.

Whatever ends it in between, it goes on from there with the same invitation or grant and the same
PIN: nothing is thrown away that the authority may have certified.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from pathlib import Path

from client import connection as connections
from client.book import Book
from client.connection import Connection
from client.errors import (
    ClosedError,
    DamagedError,
    InvitationError,
    LostError,
    RefusedError,
    RestingError,
    UnreachableError,
    WeakPasswordError,
    WrongKeyError,
    WrongPasswordError,
    WrongPinError,
)
from client.https import Https
from client.key_packages import Identity, KeyKeeping
from client.link import Address, Backoff, Credentials, Link
from client.profile import ENROLLING, Profile, create_profile, overwrite, profiles, read_checked
from client.store import Store
from client.unlocking import CERTIFICATE, ROOT, SIGNATURE, store_share, stretched
from crypto import codec
from crypto.certificate import DeviceClaim, Root, decode_certificate, pin_root
from crypto.ed25519 import SigningKey
from crypto.enrolment import DeviceKeys, create_request
from crypto.errors import CryptoError
from crypto.invitation import InvitationLink, decode_invitation, decode_link
from crypto.pin import PinKey, PinParameters
from crypto.pin_proof import SHARE_BYTES, new_share
from crypto.proof import bind_invitation
from crypto.statement import claimed_statement
from crypto.statement_types import StatementType
from protocol import frames, limits
from protocol.device_codes import application_text, read_grant_text
from protocol.errors import Code
from protocol.frames import Frame
from protocol.identifiers import DeviceId, OrganisationId, inbox_log
from protocol.inbox import ItemKind, decode_item
from protocol.proof import invitation_proof
from protocol.session import State

REQUEST_AGE_MS = 24 * 3600 * 1000
"""Age in ms from which a request is signed anew: the authority refuses those of a week."""

_STATEMENT, _BINDING = "enrolment statement", "enrolment binding"
_REQUESTED, _CONFIRMED = "enrolment request", "enrolment confirmed"
_WAY_BYTES = 32


class Step(Enum):
    """What an enrolment is at, for a screen to tell."""

    FETCHING = "fetching the invitation"
    PREPARING = "making keys"
    PASSWORD = "setting the password"  # noqa: S105 - words for a screen
    WAITING = "waiting for the authority"
    DEPOSITING = "closing the store"
    DONE = "done"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Person:
    """What the person at the device gives, and is told.

    Attributes:
        password: A new one, or with a further device the one that the person has.
        pin: For this device's store.
        one_time_code: Asked for a code; given the secret for the authenticator, empty where the
            person has it already, and whether the code before was wrong.
        on_step: Told what goes on.
    """

    password: str = field(repr=False)
    pin: str = field(repr=False)
    one_time_code: Callable[[bytes, bool], Awaitable[str]]
    on_step: Callable[[Step], None] = lambda _: None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class _Way:
    """How a device comes in: by an invitation or a grant.

    Attributes:
        token: Knows the same way again.
        address: The relay.
        keys: The device's, fresh.
        statement: What allows it.
        binding: The invitation key's signature; empty for a grant.
    """

    token: bytes
    address: Address
    keys: DeviceKeys
    statement: bytes
    binding: bytes


class Applicant:
    """A further device of a person, or the first after all were lost, before it is let in.

    Its keys are in memory until it is granted: whoever breaks off before that begins anew.

    Attributes:
        text: To be shown to the person's other device, or to two administrators.
    """

    def __init__(self, name: DeviceId) -> None:
        """Make keys for ``user/device``.

        Raises:
            InvitationError: It is no name of a device.
        """
        user, _, device = name.partition("/")
        self._keys = _fresh(user, device)
        try:
            self.text = application_text(self._keys.claim)
        except CryptoError:
            raise InvitationError from None

    async def enrol(
        self, grant: str, person: Person, *, root: Path, clock: Callable[[], int]
    ) -> Profile:
        """Return the profile of the device, once it is let in.

        Args:
            grant: The text that came back.
            person: Who is at the device.
            root: Where profiles are.
            clock: Milliseconds since the epoch.

        Raises:
            As ``enrol``.
        """
        try:
            read = read_grant_text(grant)
            address = Address(
                host=read.host,
                port=read.port,
                tls_pin=read.tls_pin,
                organisation=OrganisationId(read.organisation),
            )
        except CryptoError:
            raise InvitationError from None
        way = _Way(
            token=_token(grant),
            address=address,
            keys=self._keys,
            statement=read.statement,
            binding=b"",
        )
        pending = _pending(root, way.token) or await _prepare(way, person, root=root)
        return await _go_on(pending, person, clock=clock)


async def enrol(
    link: str, device: str, person: Person, *, root: Path, clock: Callable[[], int]
) -> Profile:
    """Return the profile of a person's first device, by the invitation that the person scanned.

    Args:
        link: The invitation's link; one that was interrupted goes on.
        device: The device's name within its person, ``[a-z0-9-]{1,32}``.
        person: Who is at the device.
        root: Where profiles are.
        clock: Milliseconds since the epoch.

    Raises:
        InvitationError: The invitation is mistyped, unknown, used or has ended: ask for another.
        WeakPasswordError: Choose another password.
        WrongPasswordError: The person has another password already.
        WrongPinError: It can be no PIN, or is not the one of the interrupted enrolment.
        RestingError: The relay asks for a pause.
        UnreachableError: There is no relay.
        LostError: The connection ended.
        StoreError: The disk has no room, or fails.
    """
    joined = "".join(link.split())
    pending = _pending(root, _token(joined))
    if pending is None:
        person.on_step(Step.FETCHING)
        way = await _invited(joined, device, clock=clock)
        pending = await _prepare(way, person, root=root)
    return await _go_on(pending, person, clock=clock)


async def resume(profile: Profile, person: Person, *, clock: Callable[[], int]) -> Profile:
    """Go on with an interrupted enrolment of this profile, without its invitation or grant.

    Raises:
        As ``enrol``.
    """
    return await _go_on(profile, person, clock=clock)


# The invitation.


async def _invited(link: str, device: str, *, clock: Callable[[], int]) -> _Way:
    try:
        invitation = decode_link(link)
    except CryptoError:
        raise InvitationError from None
    address = Address(
        host=invitation.host,
        port=invitation.port,
        tls_pin=invitation.tls_pin,
        organisation=OrganisationId(invitation.organisation),
    )
    statement = await _fetched(invitation, address, now_ms=clock())
    try:
        claimed = claimed_statement(statement)
        admits = decode_invitation(claimed.body)
        keys = _fresh(admits.user, device)
        binding = bind_invitation(statement, claim=keys.claim, key=invitation.key)
    except CryptoError:
        raise InvitationError from None
    meant = claimed.type is StatementType.INVITATION
    if not meant or admits.invitation_key != invitation.key.public_key:
        raise InvitationError
    return _Way(
        token=_token(link), address=address, keys=keys, statement=statement, binding=binding
    )


async def _fetched(invitation: InvitationLink, address: Address, *, now_ms: int) -> bytes:
    proof = invitation_proof(organisation=address.organisation, pin=address.tls_pin, at_ms=now_ms)
    signature = invitation.key.sign(proof).hex()
    path = f"/v1/invitations/{address.organisation.hex()}/{invitation.key.public_key.hex()}"
    https = Https(address)
    try:
        answer = await https.request(
            "GET",
            path,
            headers={"Wardline-Proof": f"{now_ms}:{signature}"},
            most=limits.STATEMENT_BYTES,
        )
    finally:
        https.close()
    if answer.status == 404:
        raise InvitationError
    if answer.status != 200:
        raise UnreachableError
    return answer.body


def _fresh(user: str, device: str) -> DeviceKeys:
    return DeviceKeys(
        user=user,
        device=device,
        signature_key=SigningKey.generate(),
        connection_key=SigningKey.generate(),
    )


def _token(text: str) -> bytes:
    return hashlib.sha256("".join(text.split()).encode()).digest()


# The profile.


def _pending(root: Path, token: bytes) -> Profile | None:
    """Return the profile whose enrolment by this invitation or grant was interrupted."""
    for profile in profiles(root):
        if profile.enrolling and _read_enrolling(profile)[:_WAY_BYTES] == token:
            return profile
    return None


def _read_enrolling(profile: Profile) -> bytes:
    content = read_checked(profile.directory / ENROLLING, ENROLLING)
    if len(content) != _WAY_BYTES + SHARE_BYTES:
        raise DamagedError(ENROLLING)
    return content


async def _prepare(way: _Way, person: Person, *, root: Path) -> Profile:
    """Make the profile; it is there with all that its enrolment needs, or not at all."""
    person.on_step(Step.PREPARING)
    parameters, share = PinParameters.fresh(), new_share()
    key = await stretched(person.pin, parameters)
    record = Connection(
        address=way.address,
        device=DeviceId(f"{way.keys.user}/{way.keys.device}"),
        connection_key=way.keys.connection_key,
    )

    def fill(store: Store) -> None:
        store.keys.put(SIGNATURE, way.keys.signature_key.seed)
        store.settings.put(_STATEMENT, way.statement)
        store.settings.put(_BINDING, way.binding)

    return create_profile(
        root,
        parameters=parameters,
        key=key,
        share=share,
        connection=record.encode(),
        enrolling=way.token + share,
        fill=fill,
    )


# From there.


async def _go_on(profile: Profile, person: Person, *, clock: Callable[[], int]) -> Profile:
    share = _read_enrolling(profile)[_WAY_BYTES:]
    key = await _key(profile, person.pin)
    try:
        store = profile.open(key, share)
    except WrongKeyError:
        raise WrongPinError from None
    try:
        await _Enrolment(profile, store, person, clock).run(key, share)
    finally:
        store.close()
    overwrite(profile.directory / ENROLLING)
    person.on_step(Step.DONE)
    return profile


async def _key(profile: Profile, pin: str) -> PinKey:
    try:
        return await asyncio.to_thread(profile.stretch, pin)
    except CryptoError:
        raise WrongPinError from None


class _Enrolment:
    """One run of what is left to do."""

    def __init__(
        self, profile: Profile, store: Store, person: Person, clock: Callable[[], int]
    ) -> None:
        self._profile = profile
        self._store = store
        self._person = person
        self._clock = clock
        self._record = connections.read(profile)
        seed = store.keys.get(SIGNATURE)
        if seed is None:
            raise DamagedError("database")
        user, _, device = self._record.device.partition("/")
        self._keys = DeviceKeys(
            user=user,
            device=device,
            signature_key=SigningKey.from_seed(seed),
            connection_key=self._record.connection_key,
        )

    async def run(self, key: PinKey, share: bytes) -> None:
        """Do it."""
        if not self._record.certificate:
            await self._certified()
        self._person.on_step(Step.DEPOSITING)
        link = await Link.open(
            self._record.address, self._record.credentials(self._keys.signature_key)
        )
        inbox = inbox_log(self._record.device)
        through = self._store.cursor(inbox)
        try:
            await link.send(frames.Acknowledge(log=inbox, through=through))
            await store_share(link, key, share)
            await self._publish(link)
        finally:
            await link.close()

    async def _publish(self, link: Link) -> None:
        """Give the relay the keys by which others let this device in, before it is ever started.

        As the running device does it; one that is interrupted gives all of them anew.
        """
        root = self._record.pinned_root()
        credentials = self._record.credentials(self._keys.signature_key)
        identity = Identity.of(credentials, store=self._store, root=root)
        book = Book(self._store, root=root, me=self._record.device)
        await KeyKeeping(self._store, book, identity).publish(link.ask, now_ms=self._clock())

    async def _certified(self) -> None:
        """Get the certificate, however often the connection is lost once it is asked for."""
        backoff = Backoff()
        while True:
            try:
                await self._asked()
            except (LostError, UnreachableError) as error:
                if isinstance(error, ClosedError) and error.code is Code.NOT_PROVED:
                    raise InvitationError from None
                if self._store.settings.get(_CONFIRMED) is None:
                    raise
            else:
                return
            await asyncio.sleep(backoff.pause_s())

    async def _asked(self) -> None:
        link = await Link.open(self._record.address, self._credentials())
        try:
            if link.state is not State.ENROLLING:
                raise InvitationError
            root = self._pinned(link.root)
            if self._store.settings.get(_CONFIRMED) is None:
                await self._prove_person(link)
                self._store.settings.put(_CONFIRMED, b"\x01")
            self._person.on_step(Step.WAITING)
            while not self._take(await link.receive(), root):
                pass
            through = self._store.cursor(inbox_log(self._record.device))
            await link.send(frames.Acknowledge(log=inbox_log(self._record.device), through=through))
        finally:
            await link.close()

    def _credentials(self) -> Credentials:
        return Credentials(
            device=self._record.device,
            certificate=b"",
            request=self._request(),
            connection_key=self._keys.connection_key,
            signature_key=None,
        )

    def _request(self) -> bytes:
        """Return the certificate request; the same one again while it is young."""
        kept = self._store.settings.get(_REQUESTED)
        now_ms = self._clock()
        if kept is not None and 0 <= now_ms - int.from_bytes(kept[:8], "big") < REQUEST_AGE_MS:
            return kept[8:]
        statement = self._store.settings.get(_STATEMENT)
        binding = self._store.settings.get(_BINDING)
        if statement is None or binding is None:
            raise DamagedError("database")
        request = create_request(
            self._keys,
            organisation=self._record.address.organisation,
            statement=statement,
            binding=binding,
            at_ms=now_ms,
        )
        self._store.settings.put(_REQUESTED, codec.u64(now_ms) + request)
        return request

    def _pinned(self, root: bytes) -> Root:
        try:
            return pin_root(root, organisation=self._record.address.organisation)
        except CryptoError:
            raise LostError(broke=Code.INVALID) from None

    async def _prove_person(self, link: Link) -> None:
        """Set the password, or prove it, and show that the one-time codes work."""
        self._person.on_step(Step.PASSWORD)
        secret, wrong = await self._password(link), False
        while True:
            code = await self._person.one_time_code(secret, wrong)
            try:
                await link.ask(partial(_confirmation, code))
            except RefusedError as error:
                wrong = _is_wrong(error)
            else:
                return
            if not secret:
                # A further guess at an account that is there costs a proof of its password.
                await self._password(link)

    async def _password(self, link: Link) -> bytes:
        """Return the secret for one-time codes, empty where the person has it already."""
        password = self._person.password

        def asked(ref: int) -> Frame:
            return frames.Enrol(ref=ref, password=password)

        if not limits.PASSWORD_MIN <= len(password) <= limits.PASSWORD_MAX:
            raise WeakPasswordError
        try:
            answer = await link.ask(asked)
        except RefusedError as error:
            if error.code is Code.INVALID:
                raise WeakPasswordError from None
            _is_wrong(error)
            raise WrongPasswordError(error.detail) from None
        if not isinstance(answer, frames.Provisioned):
            raise LostError(broke=Code.OUT_OF_STATE)
        return answer.totp_secret

    def _take(self, frame: Frame, root: Root) -> bool:
        """Take the certificate out of the inbox; return whether it was that."""
        inbox = inbox_log(self._record.device)
        if not isinstance(frame, frames.Deliver) or frame.log != inbox:
            return False
        try:
            item = decode_item(frame.body)
            claim = decode_certificate(item.body, root=root).claim
        except CryptoError:
            return False
        if item.kind is not ItemKind.CERTIFICATE or claim != self._claim:
            return False
        self._store.settings.put(ROOT, root.der)
        self._store.settings.put(CERTIFICATE, item.body)
        if frame.sequence > self._store.cursor(inbox):
            self._store.passed(inbox, frame.sequence)
        self._record = self._record.certified(item.body, root=root.der)
        connections.keep(self._profile, self._record)
        return True

    @property
    def _claim(self) -> DeviceClaim:
        return self._keys.claim


def _confirmation(code: str, ref: int) -> Frame:
    return frames.ConfirmEnrolment(ref=ref, code=code)


def _is_wrong(error: RefusedError) -> bool:
    """Return whether a secret was wrong and can be given again at once.

    Raises:
        RestingError: The relay asks for a pause.
    """
    if error.code is Code.WRONG_SECRET and not error.detail:
        return True
    if error.code is Code.WRONG_SECRET:
        raise WrongPasswordError(error.detail)
    raise RestingError(error.detail)
