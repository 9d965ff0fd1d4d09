"""What the archive asks of the relay as its witness: who it is, and what it signs."""

from __future__ import annotations

import asyncio

from archive import events, founding
from archive.installation import Installation
from client.errors import LinkError, LostError
from client.link import Backoff, Link
from crypto.errors import CryptoError, InvalidError
from crypto.note import NoteSignature, VerifierKey
from protocol import frames
from protocol.errors import Code
from protocol.frames import Frame


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
