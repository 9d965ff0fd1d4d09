"""Asking the archive again for proofs that never came, or came under a log that has ended.

A proof is told once. A device that was away while the archive was restored finds proofs of a log
that nobody vouches for any more; who spoke while the recorder was out of a conversation was told
nothing, since it could not read who spoke. Both are asked for by the hash of the message: the
archive has nothing to remember, and answers for what its log holds.
"""

from __future__ import annotations

from client.book import Ask, Book
from client.errors import RefusedError
from client.key_packages import Identity
from client.membership import recorder_of
from client.pace import is_due
from client.store import Store
from crypto import codec
from crypto.codec import Reader
from crypto.statement import Purpose, StatementType
from protocol import frames
from protocol.archived import MESSAGES, ProofRequest, Unproved
from protocol.identifiers import inbox_log
from protocol.inbox import Item, ItemKind

PATIENCE_MS = 600_000
"""How old, in ms, a message without a proof is before it is asked for: most proofs take seconds."""

AGAIN_MS = 24 * 3600 * 1000
"""After how long, in ms, what was asked for is asked for again: it may have been lost for good."""

AT_ONCE = 8
"""Requests in one round at most, of ``MESSAGES`` messages each."""

_ASKED = "proofs asked"


class Proofs:
    """Asks, in rounds, for what the archive has not proved."""

    def __init__(self, store: Store, book: Book, *, identity: Identity) -> None:
        self._store = store
        self._book = book
        self._identity = identity

    async def ask_again(self, ask: Ask, *, now_ms: int) -> None:
        """Ask for the next messages that have no proof; each once a day, and under each log.

        Raises:
            LostError: The connection ended.
        """
        policy, recorder = self._book.trusted.log_policy, recorder_of(self._book)
        if policy is None or recorder is None:
            return
        log = policy.log.encode().encode()
        known, began_ms, through = self._asked()
        if known != log or is_due(began_ms, now_ms=now_ms, each_ms=AGAIN_MS):
            began_ms, through = now_ms, 0
        for _ in range(AT_ONCE):
            rows = self._store.evidence.unproved(
                after=through, before_ms=now_ms - PATIENCE_MS, most=MESSAGES
            )
            if not rows:
                break
            request = ProofRequest(
                messages=tuple(
                    Unproved(conversation=where, sequence=sequence, message_hash=known_by)
                    for _, where, sequence, known_by in rows
                )
            )
            statement = self._identity.sign(
                StatementType.DEVICE_REQUEST, request.encode(), Purpose.DEVICE, now_ms=now_ms
            )
            item = Item(kind=ItemKind.STATEMENT, body=statement).encode()
            try:
                await ask(
                    lambda ref, item=item: frames.Post(  # type: ignore[misc]
                        ref=ref, log=inbox_log(recorder), statement=item
                    )
                )
            except RefusedError:
                return  # The next round asks again.
            through = rows[-1][0]
            self._keep(log, began_ms, through)

    def _asked(self) -> tuple[bytes, int, int]:
        """Return under which log the round began, when, and up to which message it has come."""
        kept = self._store.settings.get(_ASKED)
        return (b"", 0, 0) if kept is None else codec.decode(kept, "Asked", _read)

    def _keep(self, log: bytes, began_ms: int, through: int) -> None:
        kept = codec.opaque(log) + codec.u64(began_ms) + codec.u64(through)
        self._store.settings.put(_ASKED, kept)


def _read(reader: Reader) -> tuple[bytes, int, int]:
    return reader.opaque(), reader.u64(), reader.u64()
