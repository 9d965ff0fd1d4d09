"""The relay as a witness of the archive's log: it cosigns a checkpoint that only grew.

The log's key comes from the log policy, which the authority alone signs, so nobody who can reach
the relay can have another log vouched for. What was cosigned last is a fact in the store: it is
read, compared and written while the organisation's lock is held, and is durable before the
signature leaves, so of two requests at once one is told that it came too late.

Source: C2SP tlog-witness.
"""

from __future__ import annotations

from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, cast

from crypto import witness
from crypto.checkpoint import cosign
from crypto.errors import DecodeError
from crypto.note import SignatureType, SignerKey
from crypto.witness import AddCheckpoint, RefusedError, TreeHead
from protocol.errors import Code
from protocol.frames import Cosigned, Frame, GetWitnessKey, Witness, WitnessKey
from server.answers import Refusal, answered
from server.directory import tree_head_fact
from server.store import PutFacts
from storage.files import write_private

if TYPE_CHECKING:
    from server.connection import Connection
    from server.directory import Organisation
    from server.relay import Relay

_CODES = {witness.STALE: Code.STALE_CHECKPOINT, witness.NOT_CONSISTENT: Code.FORKED_CHECKPOINT}


def new_key() -> SignerKey:
    """Return a fresh witness key; its name is one that no other relay's has."""
    return SignerKey.generate(f"wardline-relay/{token_hex(4)}", SignatureType.COSIGNATURE)


def create_key(path: Path) -> None:
    """Write a new witness key to ``path``, for its owner alone.

    Raises:
        FileExistsError: There is a file.
    """
    write_private(path, new_key().encode().encode())


def read_key(path: Path) -> SignerKey:
    """Return the key that ``create_key`` wrote.

    Raises:
        FileNotFoundError: There is none.
        DecodeError: The file holds no witness key.
    """
    key = SignerKey.decode(path.read_text())
    if key.kind is not SignatureType.COSIGNATURE:
        raise DecodeError("SignerKey", 0)
    return key


def tell_key(relay: Relay, connection: Connection, frame: Frame) -> None:
    """Tell the key that verifies the relay's cosignatures."""
    asked = cast("GetWitnessKey", frame)
    connection.send(WitnessKey(ref=asked.ref, key=relay.witness.verifier.encode()))


def add_checkpoint(relay: Relay, connection: Connection, frame: Frame) -> None:
    """Cosign a checkpoint of the organisation's log, if it grew from the last one."""
    asked = cast("Witness", frame)
    work = _cosigned(relay, connection.organisation, asked)
    connection.spawn(answered(relay, connection, asked.ref, work), ref=asked.ref)


async def _cosigned(relay: Relay, organisation: Organisation, asked: Witness) -> Cosigned:
    request = AddCheckpoint.decode(asked.request)
    async with organisation.changes:
        policy = organisation.log_policy
        if policy is None:
            raise Refusal(Code.NO_SUCH)
        origin = policy.log.name
        stored = organisation.tree_heads.get(origin, TreeHead())
        try:
            head = witness.admit(request, key=policy.log, stored=stored)
        except RefusedError as refused:
            relay.count("checkpoints_refused")
            raise Refusal(_CODES.get(refused.status, Code.INVALID), stored.size) from None
        await relay.store.change(PutFacts(organisation.id, [tree_head_fact(origin, head)]))
        organisation.tree_heads[origin] = head
    line = cosign(request.note, relay.witness, at_ms=relay.now_ms())
    return Cosigned(ref=asked.ref, signature=line.encode().encode())
