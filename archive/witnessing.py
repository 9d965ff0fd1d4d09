"""What the archive asks of its witness beside cosignatures: who it is, and how much it knows."""

from __future__ import annotations

import asyncio
import contextlib

from archive import copying, events, founding
from archive.copying import Renewal
from archive.installation import Installation
from client.errors import LinkError, LostError, RefusedError
from client.link import Backoff, Link
from crypto.errors import CryptoError, InvalidError
from crypto.note import NoteSignature, VerifierKey
from crypto.witness import AddCheckpoint
from protocol import frames
from protocol.errors import Code
from protocol.frames import Frame
from protocol.session import State


async def witness_key(link: Link) -> VerifierKey:
    """Return the key that the relay cosigns with.

    Raises:
        LinkError: The connection ended, or the answer is none.
    """
    answer = await link.ask(lambda ref: frames.GetWitnessKey(ref=ref))
    if not isinstance(answer, frames.WitnessKey):
        raise LostError(broke=Code.OUT_OF_STATE)
    try:
        return VerifierKey.decode(answer.key)
    except CryptoError:
        raise LostError(broke=Code.INVALID) from None


def cosignature(answer: Frame) -> NoteSignature:
    """Return the signature line that a witness answers with.

    Raises:
        CryptoError: It answers with something else.
        UnicodeDecodeError: It answers with what is no text.
    """
    if not isinstance(answer, frames.Cosigned):
        raise InvalidError("a witness answers with its cosignature")
    return NoteSignature.decode(answer.signature.decode())


async def pinned(archive: Installation) -> VerifierKey:
    """Return the relay's key as a witness: the one that is pinned, or now will be."""
    pinned = founding.witness_keys(archive.file)
    backoff = Backoff()
    while not pinned:
        try:
            link = await Link.open(archive.address, archive.credentials())
            try:
                founding.pin_witness(archive.file, await witness_key(link))
            finally:
                await link.close()
            pinned = founding.witness_keys(archive.file)
        except LinkError as error:
            events.warn("disconnected", error=type(error).__name__)
            await asyncio.sleep(backoff.pause_s())
    return pinned[0]


async def settle(archive: Installation, witness: VerifierKey, *, now_ms: int) -> None:
    """Ask the witness how much it knows, before a restored archive signs anything.

    A witness that was itself restored knows what its backup knows, and may have cosigned more: no
    answer of it lets the log go on, so a new one begins, as where it knows more than the backup.

    Raises:
        ArchiveError: The restored log is damaged, or its witness holds another history.
    """
    asked = False
    backoff = Backoff()
    while not asked:
        try:
            known = await _known_size(archive, witness)
            asked = True
        except LinkError as error:
            events.warn("disconnected", error=type(error).__name__)
            await asyncio.sleep(backoff.pause_s())
    with contextlib.closing(archive.open_log(witness)) as log:
        size = log.size
    if known is None:
        events.warn("witness_restored", size=size)
    if known is None or known > size or not copying.may_go_on(archive.files):
        least = size if known is None else known
        renewal = Renewal(folder=archive.file.parent, files=archive.files, known=least)
        copying.renew(renewal, archive.store, founding.database_key(archive.files), now_ms=now_ms)
    copying.settled(archive.files)


async def _known_size(archive: Installation, witness: VerifierKey) -> int | None:
    """Return how many leaves of the log its witness has cosigned, or ``None`` if it cannot know."""
    link = await Link.open(archive.address, archive.credentials())
    try:
        if link.state is State.RECONCILING:
            return None
        with contextlib.closing(archive.open_log(witness)) as log:
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
            raise LostError from None
        return request.old_size
    finally:
        await link.close()
