"""An officer's device as a witness of the archive's log: it cosigns a log that only grew.

The relay cosigns every checkpoint before a receipt is given. An officer's device is a witness in
another hand: it is away for days, nothing waits for it, and it remembers. An archive that was set
back together with its relay, or that shows two people two histories, is found by the first of them
that it asks.

A question waits in the device's store until its answer is with the relay. What the device holds is
durable before it signs. A question that breaks the log's history changes nothing: it is answered
with what is held, and kept as a fault beside it.

Source: C2SP tlog-witness.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256

from client.book import Ask, Book
from client.errors import RefusedError
from client.followed import Cause
from client.gossip import Gossip
from client.key_packages import Identity
from client.store import Store
from crypto import witness
from crypto.checkpoint import Checkpoint, cosign, verify_checkpoint
from crypto.errors import CryptoError
from crypto.note import Note, NoteSignature, SignatureType, SignerKey, VerifierKey
from crypto.statement import (
    RULES,
    Purpose,
    StatementType,
    claimed_statement,
    sign_statement,
    verify_statement,
)
from crypto.witness import AddCheckpoint, TreeHead
from protocol import frames
from protocol.cosigning import COSIGNED, Cosignature, witness_name
from protocol.errors import WAITS
from protocol.identifiers import DeviceId, inbox_log
from protocol.inbox import Item, ItemKind

QUESTIONS = "witness question"
"""Rows of the cache: the archive's questions that are not answered yet."""

CONTRADICTIONS = "witness contradiction"
"""Rows of the cache: signed notes that do not continue what this device holds, by their hash."""

MOST = 64
"""Questions that are kept; more wait only where an archive starts again and again."""

PATIENCE_MS = 24 * 3600 * 1000
"""How long a question waits for the log's key to become known: the archive asks again later."""

_KEY = "witness key"
_HELD = "witness held "


class UnknownLogError(Exception):
    """The organisation has not told the key of the log in question, or not yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a question is answered with.

    Attributes:
        to: The recorder that asked.
        statement: The signed ``COSIGNATURE``.
    """

    to: DeviceId
    statement: bytes


class Witness:
    """Answers what the archive asks this device as a witness."""

    def __init__(self, store: Store, book: Book, gossip: Gossip, *, identity: Identity) -> None:
        self._store = store
        self._book = book
        self._gossip = gossip
        self._identity = identity
        self._wake = asyncio.Event()

    def asked(self, kind: StatementType, statement: bytes, *, now_ms: int) -> None:
        """Keep a question, before its entry is acknowledged."""
        if kind is not StatementType.CHECKPOINT:
            return
        if len(self._store.cache.all(QUESTIONS)) < MOST:
            key = sha256(statement).digest()
            self._store.cache.update(QUESTIONS, {key: statement}, at_ms=now_ms)
        self._wake.set()

    def wake(self) -> None:
        """Look again: what a question waits for may be known by now."""
        self._wake.set()

    async def work(self, ask: Ask, *, clock: Callable[[], int]) -> None:
        """Answer what is asked, until cancelled.

        Raises:
            LostError: The connection ended.
            StoreError: The store cannot be used.
        """
        self._wake.set()
        while True:
            await self._wake.wait()
            self._wake.clear()
            for row in sorted(self._store.cache.all(QUESTIONS), key=lambda row: row.at_ms):
                await self._book.find_signers(row.value, ask, now_ms=clock())
                if (
                    await self._is_done(row.value, ask, now_ms=clock())
                    or clock() - row.at_ms > PATIENCE_MS
                ):
                    self._store.cache.update(QUESTIONS, {row.key: None}, at_ms=clock())

    async def _is_done(self, question: bytes, ask: Ask, *, now_ms: int) -> bool:
        """Answer one question; tell whether nothing is left to do about it."""
        try:
            answer = self.answer(question, now_ms=now_ms)
        except UnknownLogError:
            return False
        except CryptoError:
            return True  # Whoever wrote it, it was no recorder of this organisation's.
        item = Item(kind=ItemKind.STATEMENT, body=answer.statement).encode()
        log = inbox_log(answer.to)
        try:
            await ask(lambda ref: frames.Post(ref=ref, log=log, statement=item))
        except RefusedError as error:
            return error.code not in WAITS
        return True

    # -- answering -----------------------------------------------------------------------------

    def answer(self, question: bytes, *, now_ms: int) -> Answer:
        """Return the answer to a question, once what it rests on is on the disk.

        Args:
            question: The ``CHECKPOINT`` statement.
            now_ms: Now.

        Raises:
            CryptoError: No recorder of this organisation asks, or it is no question.
            UnknownLogError: It is about a log whose key is not known here.
        """
        # It may have waited for weeks; a late one does no harm, as it says how old it is.
        verified = verify_statement(
            question,
            expected=StatementType.CHECKPOINT,
            trust=self._book.trusted.trust,
            at_ms=claimed_statement(question).issued_ms,
        )
        recorder = verified.signers[0].identity
        assert recorder is not None  # noqa: S101 - a recorder's signature has a certificate
        request = AddCheckpoint.decode(verified.body)
        log = self._log(Checkpoint.decode(request.note.text).origin)
        status = self._considered(request, log, now_ms=now_ms)
        return Answer(
            to=DeviceId(recorder.name), statement=self._signed(status, log, now_ms=now_ms)
        )

    def _log(self, origin: str) -> VerifierKey:
        policy = self._book.trusted.log_policy
        if policy is None or policy.log.name != origin:
            raise UnknownLogError
        return policy.log

    def held(self, origin: str) -> Note | None:
        """Return the newest checkpoint of a log that this device vouches for."""
        kept = self._store.settings.get(_HELD + origin)
        return None if kept is None else Note.decode(kept)

    def _considered(self, request: AddCheckpoint, log: VerifierKey, *, now_ms: int) -> int:
        """Take a larger tree in where it continues the one held; return the protocol's answer."""
        held = self.held(log.name)
        try:
            head = witness.admit(request, key=log, stored=_head(held))
        except witness.RefusedError as refused:
            self._suspect(request, log, held, status=refused.status, now_ms=now_ms)
            return refused.status
        # Only the log's own signature is kept: with it the note is evidence against the log.
        note = replace(request.note, signatures=_by(request.note, log))
        self._store.settings.put(_HELD + log.name, note.encode())
        if not self._gossip.verified(head.size, head.root, now_ms=now_ms):
            self._blame(request.note, now_ms=now_ms)
        return COSIGNED

    def _suspect(
        self,
        request: AddCheckpoint,
        log: VerifierKey,
        held: Note | None,
        *,
        status: int,
        now_ms: int,
    ) -> None:
        """Keep what contradicts, by the log's own signature, what this device holds."""
        if status == witness.NOT_SIGNED or held is None:
            return
        old, new = _head(held), verify_checkpoint(request.note, log)
        forked = new.size == old.size and new.root != old.root
        if status == witness.NOT_CONSISTENT or forked:
            self._blame(request.note, now_ms=now_ms)

    def _blame(self, note: Note, *, now_ms: int) -> None:
        data = note.encode()
        self._store.cache.update(CONTRADICTIONS, {sha256(data).digest(): data}, at_ms=now_ms)
        log = inbox_log(self._identity.device)
        sequence = self._store.cursor(log)
        self._store.faults.note(log, sequence, cause=Cause.SPLIT_VIEW, detail=0, at_ms=now_ms)

    def contradictions(self) -> list[Note]:
        """Return the checkpoints that the log signed against what this device holds."""
        return [Note.decode(row.value) for row in self._store.cache.all(CONTRADICTIONS)]

    def _signed(self, status: int, log: VerifierKey, *, now_ms: int) -> bytes:
        key = self._key()
        held = self.held(log.name)
        note = b""
        if held is not None:
            note = held.with_signatures(cosign(held, key, at_ms=now_ms)).encode()
        body = Cosignature(status=status, key=key.verifier.encode(), note=note)
        return sign_statement(
            StatementType.COSIGNATURE,
            body.encode(),
            organisation=self._identity.root.organisation,
            issued_ms=now_ms,
            lifetime_ms=RULES[StatementType.COSIGNATURE].lifetime_ms,
            signatory=self._identity.signatory(Purpose.OFFICER),
        )

    def _key(self) -> SignerKey:
        """Return this device's key as a witness, made when it is asked for first."""
        kept = self._store.keys.get(_KEY)
        if kept is not None:
            return SignerKey.decode(kept.decode())
        name = witness_name(self._identity.device)
        key = SignerKey.generate(name, SignatureType.COSIGNATURE)
        self._store.keys.put(_KEY, key.encode().encode())
        return key


def _by(note: Note, key: VerifierKey) -> tuple[NoteSignature, ...]:
    named = (key.name, key.key_id)
    return tuple(one for one in note.signatures if (one.name, one.key_id) == named)


def _head(held: Note | None) -> TreeHead:
    if held is None:
        return TreeHead()
    checkpoint = Checkpoint.decode(held.text)
    return TreeHead(size=checkpoint.size, root=checkpoint.root)
