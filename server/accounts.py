"""Accounts and unlock shares: passwords, one-time codes and PIN proofs, guessed slowly.

Every try is counted on disk before it is judged, so that nobody gets more tries by stopping the
relay between the two.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from typing import TYPE_CHECKING, cast

from msgspec.structs import replace

from protocol.audit import EventKind
from protocol.errors import Code
from protocol.frames import Authenticate, Frame, GetShare, Share, StoreShare
from protocol.identifiers import DeviceId, UserName, user_of
from protocol.pin_tries import TRIES as PIN_TRIES
from protocol.pin_tries import Tries
from protocol.session import State
from server import access, opening, passwords
from server.answers import Refusal, answer, answered
from server.directory import Organisation
from server.secrets import Account
from server.secrets import Share as UnlockShare

if TYPE_CHECKING:
    from server.connection import Connection
    from server.relay import Relay

FREE_TRIES = 3
"""Wrong tries before the waits begin: people mistype."""

WAIT_MS = 2000
"""First wait after the free tries, in ms; each further wrong try doubles it."""

WAIT_MAX_MS = 3600 * 1000
"""Longest wait, in ms: an account is slowed down, never closed to its person by a stranger."""

HASHES_AT_ONCE = 2
"""Argon2id computations that run at one time: each takes 64 MiB and a core."""

_hashing = asyncio.Semaphore(HASHES_AT_ONCE)


def wait_after_ms(failures: int) -> int:
    """Return the wait after so many wrong tries in a row."""
    over = failures - FREE_TRIES
    return 0 if over < 0 else min(WAIT_MS << min(over, 20), WAIT_MAX_MS)


async def check_password(password: str, stored: str | None) -> bool:
    """Tell whether a password is right, off the event loop."""
    async with _hashing:
        return await asyncio.to_thread(passwords.is_password, password, stored)


async def hash_password(password: str) -> str:
    """Return a password's hash, computed off the event loop."""
    async with _hashing:
        return await asyncio.to_thread(passwords.hash_password, password)


def authenticate(relay: Relay, connection: Connection, frame: Frame) -> None:
    """Prove password and one-time code."""
    asked = cast("Authenticate", frame)
    work = _authenticate(relay, connection, asked)
    connection.spawn(answer(relay, connection, asked.ref, work), ref=asked.ref)


async def _authenticate(relay: Relay, connection: Connection, asked: Authenticate) -> None:
    organisation, user = connection.organisation, user_of(connection.device_id)
    await prove_person(relay, organisation, user, password=asked.password, code=asked.code)
    connection.strong_until_s = relay.now_s() + access.STRONG_MS / 1000
    await _mend_share(relay, organisation, connection.device_id)
    if connection.session.state is State.ABSENT:
        await opening.seen(relay, connection)
        opening.enter(relay, connection)


async def _mend_share(relay: Relay, organisation: Organisation, device: DeviceId) -> None:
    """Let PINs be tried again at a share that wrong ones have locked."""
    async with organisation.changes:
        share = await relay.secrets.share(organisation.id, device)
        if share is not None and share.failures:
            mended = replace(share, failures=0, retry_at_ms=0)
            await relay.secrets.put_share(organisation.id, device, mended, was=share)


async def withhold(
    relay: Relay, organisation: Organisation, device: DeviceId, *, withheld: bool
) -> None:
    """Keep a device's unlock share back, or no longer; no effect where there is none.

    Raises:
        StoreError: The change could not be made.
    """
    async with organisation.changes:
        share = await relay.secrets.share(organisation.id, device)
        if share is not None and share.withheld is not withheld:
            changed = replace(share, withheld=withheld)
            await relay.secrets.put_share(organisation.id, device, changed, was=share)


async def forget(relay: Relay, organisation: Organisation, user: UserName) -> None:
    """Delete a person's account; where there is one device left, it can be set up anew.

    Raises:
        StoreError: The change could not be made.
    """
    async with organisation.changes:
        account = await relay.secrets.account(organisation.id, user)
        await relay.secrets.put_account(organisation.id, user, None, was=account)


async def prove_person(
    relay: Relay, organisation: Organisation, user: UserName, *, password: str, code: str
) -> None:
    """Check a person's password and one-time code, counting the try first.

    Raises:
        Refusal: One is wrong, or it is too early for another try.
        StoreError: The try could not be counted.
    """
    account = await counted(relay, organisation, user)
    right = await check_password(password, account.password_hash if account else None)
    step = None
    if account is not None:
        step = passwords.match_totp(
            account.totp_secret,
            code,
            last_step=account.totp_last_step,
            now_ms=relay.now_ms(),
        )
    if account is None or not right or step is None:
        relay.audit(organisation, EventKind.PASSWORD_WRONG)
        failures = account.failures if account else 0
        raise Refusal(Code.WRONG_SECRET, wait_after_ms(failures))
    proved = replace(account, failures=0, retry_at_ms=0, totp_last_step=step)
    await relay.secrets.put_account(organisation.id, user, proved, was=account)


async def counted(relay: Relay, organisation: Organisation, user: UserName) -> Account | None:
    """Count a try at an account, and return it as it then stands.

    Raises:
        Refusal: It is too early for another try.
        StoreError: The try could not be counted.
    """
    wait_ms = relay.secret_wait_ms(organisation, user)
    if wait_ms:
        raise Refusal(Code.WRONG_SECRET, wait_ms)
    async with organisation.changes:
        account = await relay.secrets.account(organisation.id, user)
        if account is None:
            return None
        now_ms = relay.now_ms()
        if now_ms < account.retry_at_ms <= now_ms + WAIT_MAX_MS:
            raise Refusal(Code.WRONG_SECRET, account.retry_at_ms - now_ms)
        failures = account.failures + 1
        tried = replace(account, failures=failures, retry_at_ms=now_ms + wait_after_ms(failures))
        await relay.secrets.put_account(organisation.id, user, tried, was=account)
        return tried


def store_share(relay: Relay, connection: Connection, frame: Frame) -> None:
    """Keep the unlock share of a device that is open."""
    asked = cast("StoreShare", frame)
    work = _store_share(relay, connection, asked)
    connection.spawn(answer(relay, connection, asked.ref, work), ref=asked.ref)


async def _store_share(relay: Relay, connection: Connection, asked: StoreShare) -> None:
    organisation, device = connection.organisation, connection.device_id
    share = UnlockShare(share=asked.share, pin_verifier=_verifier(asked.pin_proof))
    async with organisation.changes:
        older = await relay.secrets.share(organisation.id, device)
        await relay.secrets.put_share(organisation.id, device, share, was=older)


def _verifier(pin_proof: bytes) -> bytes:
    """Return what is kept of a PIN proof.

    The proof is 32 bytes that the device has stretched with Argon2id from PIN and a salt of its
    own; whoever reads the verifier and not the device cannot test PINs against it.
    """
    return hashlib.sha256(b"Wardline 1 PIN verifier" + pin_proof).digest()


def get_share(relay: Relay, connection: Connection, frame: Frame) -> None:
    """Give the unlock share for a right PIN proof."""
    asked = cast("GetShare", frame)
    work = _get_share(relay, connection, asked)
    connection.spawn(answered(relay, connection, asked.ref, work), ref=asked.ref)


async def _get_share(relay: Relay, connection: Connection, asked: GetShare) -> Share:
    return Share(ref=asked.ref, share=await _released(relay, connection, asked.pin_proof))


async def _released(relay: Relay, connection: Connection, pin_proof: bytes) -> bytes:
    organisation, device = connection.organisation, connection.device_id
    async with organisation.changes:
        share = await relay.secrets.share(organisation.id, device)
        now_ms = relay.now_ms()
        if share is None or share.withheld:
            raise Refusal(Code.NO_SUCH)
        if share.failures >= PIN_TRIES:
            raise Refusal(Code.SHARE_LOCKED)
        if now_ms < share.retry_at_ms <= now_ms + WAIT_MAX_MS:
            raise _wrong_pin(share.failures, wait_ms=share.retry_at_ms - now_ms)
        failures = share.failures + 1
        tried = replace(share, failures=failures, retry_at_ms=now_ms + wait_after_ms(failures))
        await relay.secrets.put_share(organisation.id, device, tried, was=share)
        if not hmac.compare_digest(share.pin_verifier, _verifier(pin_proof)):
            if failures >= PIN_TRIES:
                relay.audit(organisation, EventKind.SHARE_LOCKED, device=device)
            raise _wrong_pin(failures, wait_ms=wait_after_ms(failures))
        rested = replace(share, failures=0, retry_at_ms=0)
        await relay.secrets.put_share(organisation.id, device, rested, was=tried)
    relay.audit(organisation, EventKind.SHARE_GIVEN, device=device)
    return share.share


def _wrong_pin(failures: int, *, wait_ms: int) -> Refusal:
    if failures >= PIN_TRIES:
        return Refusal(Code.SHARE_LOCKED)
    return Refusal(Code.WRONG_PIN, Tries(left=PIN_TRIES - failures, wait_ms=wait_ms).detail())
