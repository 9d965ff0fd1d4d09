"""Unlocking: PIN and the relay's share open the store; a lease stands in for a relay that is away.

The relay counts wrong PINs, makes them wait, and after ten wants password and one-time code. So it
is asked wherever it is reached, also while a lease runs: that is how a suspended device learns that
it is.

Changing the PIN replaces the relay's share, the store's key and the header; ``client.profile`` says
how each moment of it is one from which the old PIN or the new one opens the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

from client import connection as connections
from client import lease as leases
from client.connection import Connection
from client.errors import (
    AbsentError,
    ClosedError,
    DamagedError,
    ImpostorError,
    LinkError,
    LostError,
    NotEnrolledError,
    OfflineError,
    OutdatedError,
    RefusedError,
    RestingError,
    RestoringError,
    ShareLockedError,
    UnlockError,
    UnreachableError,
    WipingError,
    WithheldError,
    WrongKeyError,
    WrongPasswordError,
    WrongPinError,
)
from client.link import Address, Credentials, Link
from client.profile import END, Profile
from client.store import Store
from crypto.ed25519 import SEED_BYTES, SigningKey
from crypto.errors import InvalidError
from crypto.pin import PinKey, PinParameters, stretch
from crypto.pin_proof import new_share
from protocol import frames
from protocol.errors import Code
from protocol.pin_tries import Tries
from protocol.session import State

SIGNATURE = "signature"
"""Name under which the store keeps the seed of the device's signature key."""

ROOT, CERTIFICATE = "root", "certificate"
"""Settings of the store: the pinned root, and the device's newest certificate, both DER."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Opened:
    """An open store, and all that is needed to use it.

    Attributes:
        profile: Whose.
        store: Open.
        credentials: With the device's own key.
        address: The relay.
        root: The pinned root certificate, DER.
        leased: Whether the relay was not asked.
    """

    profile: Profile
    store: Store
    credentials: Credentials
    address: Address
    root: bytes
    leased: bool


async def unlock(profile: Profile, pin: str, *, now_ms: int) -> Opened:
    """Return the open store of a profile.

    Args:
        profile: Whose.
        pin: As typed.
        now_ms: Now, milliseconds since the epoch.

    Raises:
        UnlockError: It is not opened; each class says what to do next.
        ImpostorError: Something else than the pinned relay answers, and no lease runs.
        StoreError: The disk has something else than what was written, no room, or fails.
    """
    if profile.wiping:
        raise WipingError
    if profile.enrolling:
        raise NotEnrolledError
    record = connections.read(profile)
    keys = profile.stretches(pin)
    # The relay is called while Argon2id has a core for a quarter of a second.
    calling = asyncio.ensure_future(connect(record))
    try:
        link, first = await asyncio.gather(calling, _next(keys), return_exceptions=True)
    except asyncio.CancelledError:
        await _hang_up(calling)
        raise
    if isinstance(link, UnreachableError | LostError):
        return _by_lease(profile, record, _key(first), now_ms=now_ms, away=link)
    if isinstance(link, WithheldError):
        leases.forget(profile)
    if isinstance(link, BaseException):
        raise link
    try:
        key, share = await _share_of(_key(first), keys, link)
    except LostError:
        raise OfflineError from None
    except WithheldError:
        leases.forget(profile)
        raise
    finally:
        await link.close()
    store = profile.open(key, share)
    leases.grant(profile, share, terms=leases.terms_of(store), now_ms=now_ms)
    return _opened(profile, record, store, leased=False)


async def connect(record: Connection) -> Link:
    """Return the connection of a locked device.

    Raises:
        AbsentError: The device was away for long.
        WithheldError: It is revoked or suspended.
        OutdatedError: Its certificate does not count any more.
        UnreachableError: There is no relay, or it serves nobody now.
        LostError: The connection ended before it stood.
    """
    link = await _proved(record)
    stands = link.state
    if stands is State.LOCKED:
        return link
    await link.close()
    raise AbsentError if stands is State.ABSENT else WithheldError


async def share_of(profile: Profile, pin: str, link: Link) -> tuple[PinKey, bytes]:
    """Return the stretched PIN and the relay's share for it, over a connection that stands.

    In the middle of a PIN change two stretched PINs are tried, of which one is wrong.

    Raises:
        UnlockError: It is another PIN, or the relay does not give the share.
        LostError: The connection ended.
        StoreError: The header is damaged, or a wipe has begun.
    """
    keys = profile.stretches(pin)
    return await _share_of(await _next(keys), keys, link)


async def prove_person(profile: Profile, password: str, code: str) -> None:
    """Prove password and one-time code, so that PINs can be tried again.

    Args:
        profile: Whose.
        password: The person's.
        code: From the person's authenticator, not used before.

    Raises:
        WrongPasswordError: One of the two is wrong, or it is too early for another try.
        RestingError: The relay asks for a pause.
        WithheldError: The device is revoked or suspended.
        OutdatedError: Its certificate does not count any more.
        UnreachableError: There is no relay.
        LostError: The connection ended.
        StoreError: The connection file is damaged.
    """
    link = await _proved(connections.read(profile))
    try:
        if link.state not in (State.LOCKED, State.ABSENT):
            raise WithheldError
        await link.authenticate(password, code)
    except RefusedError as error:
        if error.code is Code.WRONG_SECRET:
            raise WrongPasswordError(error.detail) from None
        raise RestingError(error.detail) from None
    finally:
        await link.close()


async def change_pin(opened: Opened, old: str, new: str, *, link: Link, now_ms: int) -> None:
    """Give the store another PIN; whatever interrupts it, the old one or the new one opens it.

    Args:
        opened: The open store.
        old: The PIN until now, as typed.
        new: The PIN from now on, as typed.
        link: The device's open connection.
        now_ms: Now, milliseconds since the epoch.

    Raises:
        WrongPinError: ``old`` is another, or ``new`` can be no PIN.
        UnlockError: The relay did not take part; the old PIN holds.
        LostError: The connection ended; the next unlocking finds out which PIN holds.
        StoreError: The disk has no room or fails; as before.
    """
    profile = opened.profile
    key, share = await share_of(profile, old, link)
    parameters, fresh = PinParameters.fresh(), new_share()
    following = await stretched(new, parameters)
    profile.begin_change(key.store_key(share), parameters=parameters, key=following, share=fresh)
    leases.forget(profile)
    try:
        await store_share(link, following, fresh)
    except RestingError:
        profile.abandon_change()
        raise
    profile.finish_change(opened.store, key=following, share=fresh)
    leases.grant(profile, fresh, terms=leases.terms_of(opened.store), now_ms=now_ms)


async def stretched(pin: str, parameters: PinParameters) -> PinKey:
    """Return the key of a typed PIN, computed beside the event loop.

    Raises:
        WrongPinError: It can be no PIN.
    """
    try:
        return await asyncio.to_thread(stretch, pin, parameters)
    except InvalidError:
        raise WrongPinError from None


async def store_share(link: Link, key: PinKey, share: bytes) -> None:
    """Have the relay keep a share under a PIN, over an open connection.

    Raises:
        RestingError: The relay did not take it.
        LostError: The connection ended, and whether it did is not known.
    """
    proof = key.proof()
    try:
        await link.ask(lambda ref: frames.StoreShare(ref=ref, share=share, pin_proof=proof))
    except RefusedError as error:
        raise RestingError(error.detail) from None


async def _proved(record: Connection) -> Link:
    try:
        return await Link.open(record.address, record.credentials())
    except ClosedError as error:
        if error.code in (Code.OUTDATED, Code.NOT_PROVED):
            raise OutdatedError from None
        if error.code is Code.REVOKED:
            raise WithheldError from None
        raise


async def _share_of(
    key: PinKey | None, others: Iterator[PinKey], link: Link
) -> tuple[PinKey, bytes]:
    wrong = WrongPinError()
    while key is not None:
        try:
            return key, await _ask_share(link, key)
        except WrongPinError as error:
            wrong = error
        key = await _next(others)
    raise wrong


async def _hang_up(calling: asyncio.Future[Link]) -> None:
    """Close the connection, if it stood before whoever asked for it went away."""
    (link,) = await asyncio.gather(calling, return_exceptions=True)
    if isinstance(link, Link):
        await link.close()


def _key(first: PinKey | BaseException | None) -> PinKey | None:
    """Return what stretching beside the call gave, or raise what it raised."""
    if isinstance(first, BaseException):
        raise first
    return first


async def _next(keys: Iterator[PinKey]) -> PinKey | None:
    try:
        return await asyncio.to_thread(next, keys, None)
    except InvalidError:
        raise WrongPinError from None


async def _ask_share(link: Link, key: PinKey) -> bytes:
    proof = key.proof()
    try:
        answer = await link.ask(lambda ref: frames.GetShare(ref=ref, pin_proof=proof))
    except RefusedError as error:
        raise _refusal(error) from None
    if not isinstance(answer, frames.Share):
        raise LostError(broke=Code.OUT_OF_STATE)
    return answer.share


def _refusal(error: RefusedError) -> UnlockError:
    if error.code is Code.WRONG_PIN:
        tries = Tries.of(error.detail)
        return WrongPinError(wait_ms=tries.wait_ms, tries_left=tries.left)
    if error.code is Code.SHARE_LOCKED:
        return ShareLockedError()
    if error.code is Code.NO_SUCH:
        return WithheldError()
    return RestingError(error.detail)


def _by_lease(
    profile: Profile, record: Connection, key: PinKey | None, *, now_ms: int, away: LinkError
) -> Opened:
    """Open without the relay; a wrong PIN costs one of the lease's tries."""
    lease = leases.running(profile, now_ms=now_ms)
    if isinstance(away, ClosedError) and away.code is Code.RECONCILING and lease is None:
        raise RestoringError
    if isinstance(away, ImpostorError) and lease is None:
        raise away
    if lease is None or key is None:
        raise OfflineError
    leases.spend(profile, lease)
    try:
        store = profile.open(key, lease.share)
    except WrongKeyError:
        raise WrongPinError(tries_left=lease.tries - 1) from None
    leases.restore(profile, lease)
    return _opened(profile, record, store, leased=True)


def _opened(profile: Profile, record: Connection, store: Store, *, leased: bool) -> Opened:
    """Return what an open store gives; one that lacks its own key is not believed."""
    seed = store.keys.get(SIGNATURE)
    if seed is None or len(seed) != SEED_BYTES:
        store.close()
        raise DamagedError("database")
    if (profile.directory / END).exists():
        from client import signing_out  # noqa: PLC0415 - for shared workstations alone

        signing_out.opened(profile)
    return Opened(
        profile=profile,
        store=store,
        credentials=record.credentials(SigningKey.from_seed(seed)),
        address=record.address,
        root=record.root,
        leased=leased,
    )
