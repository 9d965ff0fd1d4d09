"""What a restored archive does before it signs: it asks its witnesses how much they know."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from archive import copying, events, founding
from archive.copying import Renewal
from archive.errors import HistoryError
from archive.gathering import ask_before_signing
from archive.installation import Installation
from archive.log import Log
from client.errors import LinkError, LostError, RefusedError
from client.link import Backoff, Link
from crypto.note import VerifierKey
from crypto.witness import AddCheckpoint
from protocol import frames
from protocol.errors import Code
from protocol.session import State

Clock = Callable[[], int]
"""Gives now, in ms since the epoch."""


async def settle(archive: Installation, witness: VerifierKey, *, clock: Clock) -> None:
    """Ask the witnesses how much they know, before a restored archive signs anything.

    A relay that was itself restored knows what its backup knows, and may have cosigned more: no
    answer of it lets the log go on, so a new one begins, as where a witness knows more than the
    backup, another history, or a log that came after this one.

    Raises:
        ArchiveError: The restored log is damaged.
    """
    if copying.is_renewing(archive.files):
        _renew(archive, 0, clock=clock)
        return
    asked = False
    backoff = Backoff()
    known: int | None = None
    while not asked:
        try:
            known = await _known_size(archive, witness, clock=clock)
            asked = True
        except LinkError as error:
            events.warn("disconnected", error=type(error).__name__)
            await asyncio.sleep(backoff.pause_s())
    with contextlib.closing(archive.open_log(witness)) as log:
        size = log.size
        held, forked = _held(archive, log)
    if known is None:
        events.warn("witness_restored", size=size)
    least = max(size if known is None else known, held)
    if known is None or least > size or forked or not copying.may_go_on(archive.files):
        _renew(archive, least, clock=clock)
    else:
        copying.settled(archive.files)


def _renew(archive: Installation, known: int, *, clock: Clock) -> None:
    """Begin a new log, or go on with what was broken off."""
    renewal = Renewal(folder=archive.file.parent, files=archive.files, known=known)
    copying.renew(renewal, archive.store, founding.database_key(archive.files), now_ms=clock())


def _held(archive: Installation, log: Log) -> tuple[int, bool]:
    """Return how many leaves officers' devices know of, and whether they know other ones."""
    cosigners, trust = archive.cosigners(), archive.authority.trust
    sizes = [checkpoint.size for _, checkpoint in cosigners.held(trust, log.verifier)]
    try:
        cosigners.check(log, trust)
    except HistoryError:
        return max(sizes), True
    return max(sizes, default=0), False


async def _known_size(archive: Installation, witness: VerifierKey, *, clock: Clock) -> int | None:
    """Return how many leaves of the log the relay has cosigned, or ``None`` if it cannot know.

    Where that is no more than there is here, officers' devices are asked as well.
    """
    link = await Link.open(archive.address, archive.credentials())
    try:
        if link.state is State.RECONCILING:
            return None
        with contextlib.closing(archive.open_log(witness)) as log:
            known = await _relays_size(link, log)
            if known is not None and known <= log.size:
                await ask_before_signing(link, archive, log, now_ms=clock)
        return known
    finally:
        await link.close()


async def _relays_size(link: Link, log: Log) -> int | None:
    # What was signed long ago: asked for again, it is answered by what the witness has.
    request = AddCheckpoint(old_size=log.signed.size, proof=(), note=log.signed_note())
    encoded = request.encode()
    try:
        await link.ask(lambda ref: frames.Witness(ref=ref, request=encoded))
    except RefusedError as error:
        if error.code in (Code.STALE_CHECKPOINT, Code.FORKED_CHECKPOINT):
            return error.detail
        if error.code is Code.NO_SUCH:
            return 0  # The relay has no log policy: it never cosigned anything.
        if error.code is Code.INVALID:
            return None  # It knows another log's key: this one was ended after the backup.
        raise LostError from None
    return request.old_size
