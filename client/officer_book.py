"""What an officer's device knows of the archive's openings, each thing verified before it is kept.

It is in the device's store. A letter that does not verify changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from client.caches import Cached
from client.errors import DamagedError
from client.store import Store
from crypto.checkpoint import Checkpoint, verify_cosignature
from crypto.codec import U64, Opaque, Struct
from crypto.errors import InvalidError, VerificationError
from crypto.log_proof import LogProof
from crypto.merkle import leaf_hash
from crypto.note import Note, VerifierKey, signatures_of
from crypto.statement import VerifiedStatement, statement_type, verify_statement
from crypto.statement_types import StatementType
from crypto.trust import Trust
from protocol.identifiers import UserName
from protocol.letters import (
    Letter,
    Notice,
    Part,
    Recorded,
    Released,
    Signed,
    decode_letter,
    join_parts,
)
from protocol.opening import (
    Challenge,
    Hits,
    LegalHold,
    Liveness,
    Offer,
    OfficerKeys,
    OpeningApproval,
    OpeningRequest,
    RecordProof,
    ShareRelease,
    Shares,
    statement_hash,
)
from protocol.quorum import Answer, check_hold
from protocol.recorded import check_recorded

RECORD_KINDS = {
    StatementType.OPENING_REQUEST: 11,
    StatementType.OPENING_APPROVAL: 12,
    StatementType.SHARE_RELEASE: 13,
    StatementType.LEGAL_HOLD: 5,
}
"""The log's types of record for the statements of an opening."""

_INDEX_AT = slice(3, 11)
_TIME_AT = slice(11, 19)

_PARTS = "officer part"
_OFFERS = "officer offer"
_STATEMENTS = "officer statement"
_PROOFS = "officer proof"
_HITS = "officer hits"
_SHARES = "officer shares"
_RELEASED = "officer released"
_CHALLENGE = "officer challenge"
_NOTICES = "officer notice"
_KEY = "officer key "


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPolicy:
    """Whose checkpoints an officer's device believes; both are the organisation's, configured.

    Attributes:
        log: The archive's log.
        witnesses: At least one of them must have cosigned.
    """

    log: VerifierKey
    witnesses: tuple[VerifierKey, ...]

    def checkpoint(self, note: Note) -> None:
        """Refuse a note that no witness has cosigned.

        Raises:
            VerificationError: None has, or a cosignature is wrong.
        """
        cosigned = [key for key in self.witnesses if signatures_of(note, key)]
        if not cosigned:
            raise VerificationError
        for key in cosigned:
            verify_cosignature(note, key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven(Struct):
    """Where a statement stands in the log, as this device verified it.

    Attributes:
        index: Of its record.
        at_ms: When the archive recorded it.
        tree_size: Of the cosigned checkpoint that contains it.
        root: Of that tree.
    """

    index: U64
    at_ms: U64
    tree_size: U64
    root: Opaque


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept(Struct):
    """A verified statement as it is kept.

    Attributes:
        issued_ms: When it was signed.
        signer: The user who signed.
        body: What it says.
        data: The statement.
    """

    issued_ms: U64
    signer: Opaque
    body: Opaque = field(repr=False)
    data: Opaque = field(repr=False)

    @property
    def user(self) -> UserName:
        """Who signed."""
        return UserName(self.signer.decode("ascii"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Filed:
    """A request with all that is known of it.

    Attributes:
        hash: What everything else names it by.
        officer: Who asks.
        issued_ms: When it was signed.
        body: What is asked.
        proven: Where it stands in the log; None before that is shown.
        hits: What it hits; None where the offer did not come here.
        answers: Those that are shown to be in the log.
        waiting: Officers whose answer is not yet shown to be there.
    """

    hash: bytes
    officer: UserName
    issued_ms: int
    body: OpeningRequest
    proven: Proven | None
    hits: Hits | None
    answers: tuple[Answer, ...]
    waiting: tuple[UserName, ...]


class Book:
    """The rows, read and written by ``client.officer``."""

    def __init__(
        self, store: Store, *, trust: Callable[[], Trust], policy: Callable[[], LogPolicy]
    ) -> None:
        self._store = store
        self._trust = trust
        self._policy = policy

    # -- letters --------------------------------------------------------------------------------

    def take(self, data: bytes, *, me: UserName, now_ms: int) -> Letter | None:
        """Keep what a letter of the officers' conversation says; return it once it is whole.

        Raises:
            DecodeError: The bytes are no letter.
            InvalidError: A rule is broken, which is named.
            VerificationError: A signature, proof or cosignature does not verify.
        """
        letter = decode_letter(data)
        if isinstance(letter, Part):
            whole = self._gathered(letter, now_ms=now_ms)
            if whole is None:
                return None
            letter = whole
        self._keep(letter, me=me, now_ms=now_ms)
        return letter

    def _gathered(self, part: Part, *, now_ms: int) -> Letter | None:
        cache = self._store.cache
        row = cache.get(_PARTS, part.whole)
        # Which are here is one short row: a large letter is read once, when it is whole.
        here = {*_numbers(b"" if row is None else row.value), part.number}
        key = part.whole + part.number.to_bytes(2, "big")
        if len(here) < part.count:
            changes = {key: part.encode(), part.whole: _written(here)}
            cache.update(_PARTS, changes, at_ms=now_ms)
            return None
        keys = [
            part.whole + number.to_bytes(2, "big")
            for number in sorted(here)
            if number != part.number
        ]
        parts = [part, *(Part.decode(found.value) for found in map(self._part, keys))]
        cache.update(_PARTS, dict.fromkeys([part.whole, *keys]), at_ms=now_ms)
        return join_parts(parts)

    def _part(self, key: bytes) -> Cached:
        row = self._store.cache.get(_PARTS, key)
        if row is None:
            raise DamagedError("database")
        return row

    def _keep(self, letter: Letter, *, me: UserName, now_ms: int) -> None:
        if isinstance(letter, Signed | Released):
            self.keep_statement(letter.statement, now_ms=now_ms)
        elif isinstance(letter, Offer):
            hits = Hits.decode(letter.hits)
            self._put(_OFFERS, letter.draft.nonce, letter.encode(), now_ms)
            self._put(_HITS, hits.hash, letter.hits, now_ms)
        elif isinstance(letter, RecordProof):
            self._keep_proof(letter, now_ms)
        elif isinstance(letter, Recorded):
            self._keep_recorded(letter, now_ms)
        elif isinstance(letter, Shares):
            if letter.officer == me:
                self._put(_SHARES, letter.request, letter.encode(), now_ms)
        elif isinstance(letter, Challenge):
            if letter.officer == me:
                self._put(_CHALLENGE, b"newest", letter.encode(), now_ms)
        elif isinstance(letter, Notice):
            key = now_ms.to_bytes(8, "big") + letter.about
            self._put(_NOTICES, key, letter.encode(), now_ms)

    def _keep_recorded(self, letter: Recorded, now_ms: int) -> None:
        """Keep a hold that was set before this device came, as it was when the log took it in."""
        data, proof = letter.statement, letter.proof
        kind = statement_type(data)
        if kind is not StatementType.LEGAL_HOLD or proof.statement != statement_hash(data):
            raise InvalidError("a hold is shown with its own place in the log")
        proven = self._proven(proof, kind=kind, statement=data)
        self._keep_statement(data, at_ms=proven.at_ms, now_ms=now_ms)
        self._put(_PROOFS, proof.statement, proven.encode(), now_ms)

    def keep_statement(self, data: bytes, *, now_ms: int) -> VerifiedStatement:
        """Keep an officer's statement, verified as of now.

        Raises:
            DecodeError: The bytes are no statement, or its body is none of its type.
            InvalidError: A rule is broken, which is named.
            VerificationError: A signature does not verify.
        """
        return self._keep_statement(data, at_ms=now_ms, now_ms=now_ms)

    def _keep_statement(self, data: bytes, *, at_ms: int, now_ms: int) -> VerifiedStatement:
        kind = statement_type(data)
        if kind not in _BODIES:
            raise InvalidError("a statement that officers exchange")
        verified = verify_statement(data, expected=kind, trust=self._trust(), at_ms=at_ms)
        body = _BODIES[kind](verified.body)
        identity = verified.signers[0].identity
        if identity is None:
            raise InvalidError("an officer is a person")
        if isinstance(body, LegalHold):
            check_hold(body, known=self.holds())
        kept = Kept(
            issued_ms=verified.issued_ms,
            signer=identity.user.encode("ascii"),
            body=verified.body,
            data=data,
        )
        self._put(_STATEMENTS, bytes([kind]) + statement_hash(data), kept.encode(), now_ms)
        return verified

    def _keep_proof(self, letter: RecordProof, now_ms: int) -> None:
        """Keep where a statement stands, once this device has seen for itself that it does."""
        found = self._statement(letter.statement)
        if found is None:
            raise InvalidError("a proof is of a statement that came before")
        kind, kept = found
        proven = self._proven(letter, kind=kind, statement=kept.data)
        self._put(_PROOFS, letter.statement, proven.encode(), now_ms)

    def _proven(self, letter: RecordProof, *, kind: StatementType, statement: bytes) -> Proven:
        """Return where a statement stands, verified."""
        check_recorded(
            letter.record, kind=RECORD_KINDS.get(kind, 0), salt=letter.salt, body=statement
        )
        proof = LogProof.decode(letter.proof)
        policy = self._policy()
        checkpoint = proof.verify(leaf=leaf_hash(letter.record), key=policy.log)
        policy.checkpoint(proof.note)
        if int.from_bytes(letter.record[_INDEX_AT], "big") != proof.index:
            raise VerificationError
        return _proven(letter.record, checkpoint)

    # -- reading --------------------------------------------------------------------------------

    def requests(self) -> list[Filed]:
        """Return every request that is known, oldest first."""
        filed = [
            self._filed(name, kept)
            for name, kept in self._statements(StatementType.OPENING_REQUEST)
        ]
        return sorted(filed, key=lambda one: one.issued_ms)

    def request(self, name: bytes) -> Filed | None:
        """Return the request with this ``statement_hash``, or None."""
        found = self._statement(name)
        if found is None or found[0] is not StatementType.OPENING_REQUEST:
            return None
        return self._filed(name, found[1])

    def _filed(self, name: bytes, kept: Kept) -> Filed:
        body = OpeningRequest.decode(kept.body)
        answers, waiting = self._answers(name)
        hits = self._store.cache.get(_HITS, body.hits)
        return Filed(
            hash=name,
            officer=kept.user,
            issued_ms=kept.issued_ms,
            body=body,
            proven=self.proof(name),
            hits=None if hits is None else Hits.decode(hits.value),
            answers=answers,
            waiting=waiting,
        )

    def _answers(self, request: bytes) -> tuple[tuple[Answer, ...], tuple[UserName, ...]]:
        """Return the answers to a request in the log's order, and whose is not shown there yet."""
        found: list[tuple[int, Answer]] = []
        waiting: list[UserName] = []
        for name, kept in self._statements(StatementType.OPENING_APPROVAL):
            approval = OpeningApproval.decode(kept.body)
            if approval.request != request:
                continue
            proven = self.proof(name)
            if proven is None:
                waiting.append(kept.user)
                continue
            answer = Answer(officer=kept.user, approval=approval, at_ms=proven.at_ms)
            found.append((proven.index, answer))
        found.sort(key=lambda pair: pair[0])
        return tuple(answer for _, answer in found), tuple(waiting)

    def newest_proof(self, request: bytes) -> Proven | None:
        """Return the largest checkpoint under which something of a request was shown."""
        names = [request]
        for name, kept in self._statements(StatementType.OPENING_APPROVAL):
            if OpeningApproval.decode(kept.body).request == request:
                names.append(name)
        proofs = [proof for proof in map(self.proof, names) if proof is not None]
        return max(proofs, key=lambda proof: proof.tree_size, default=None)

    def proof(self, name: bytes) -> Proven | None:
        """Return where a statement stands in the log, or None before that is shown."""
        row = self._store.cache.get(_PROOFS, name)
        return None if row is None else Proven.decode(row.value)

    def offers(self) -> list[Offer]:
        """Return the archive's answers to drafts, newest first."""
        rows = sorted(self._store.cache.all(_OFFERS), key=lambda row: row.at_ms, reverse=True)
        return [Offer.decode(row.value) for row in rows]

    def offer(self, nonce: bytes) -> Offer | None:
        """Return the archive's answer to the draft with this nonce, or None."""
        row = self._store.cache.get(_OFFERS, nonce)
        return None if row is None else Offer.decode(row.value)

    def holds(self) -> dict[bytes, LegalHold]:
        """Return the holds in force by ``statement_hash``."""
        holds = {
            name: LegalHold.decode(kept.body)
            for name, kept in self._statements(StatementType.LEGAL_HOLD)
        }
        ended = {hold.released for hold in holds.values() if not hold.is_set}
        return {name: hold for name, hold in holds.items() if hold.is_set and name not in ended}

    def shares(self, request: bytes) -> Shares | None:
        """Return this officer's sealed shares for a request, or None before they came."""
        row = self._store.cache.get(_SHARES, request)
        return None if row is None else Shares.decode(row.value)

    def challenge(self) -> Challenge | None:
        """Return the newest challenge to this officer, or None."""
        row = self._store.cache.get(_CHALLENGE, b"newest")
        return None if row is None else Challenge.decode(row.value)

    def notices(self) -> list[tuple[int, Notice]]:
        """Return what the archive told, with when it came, newest last."""
        return [(row.at_ms, Notice.decode(row.value)) for row in self._store.cache.all(_NOTICES)]

    # -- this device's own ----------------------------------------------------------------------

    def released(self, request: bytes) -> Released | None:
        """Return the letter by which this device released shares for a request, or None."""
        row = self._store.cache.get(_RELEASED, request)
        return None if row is None else Released.decode(row.value)

    def keep_released(self, request: bytes, letter: Released, *, now_ms: int) -> None:
        """Keep what is released, before it leaves the device: it is never made a second time."""
        self._put(_RELEASED, request, letter.encode(), now_ms)

    def seed(self, bucket: bytes) -> bytes | None:
        """Return the private key of a bucket, or None."""
        return self._store.keys.get(_KEY + bucket.decode("ascii"))

    def keep_seed(self, bucket: bytes, seed: bytes) -> None:
        """Keep the private key of a bucket."""
        self._store.keys.put(_KEY + bucket.decode("ascii"), seed)

    def destroy_seed(self, bucket: bytes) -> None:
        """Destroy the private key of a bucket; what was sealed to it stays sealed for ever."""
        self._store.keys.remove(_KEY + bucket.decode("ascii"))

    def buckets(self) -> list[bytes]:
        """Return the buckets for which this device holds keys."""
        names = self._store.keys.names(_KEY)
        return sorted(name.removeprefix(_KEY).encode("ascii") for name in names)

    # -- rows -----------------------------------------------------------------------------------

    def _put(self, kind: str, key: bytes, value: bytes, now_ms: int) -> None:
        self._store.cache.update(kind, {key: value}, at_ms=now_ms)

    def _statements(self, kind: StatementType) -> list[tuple[bytes, Kept]]:
        return [
            (row.key[1:], Kept.decode(row.value))
            for row in self._store.cache.all(_STATEMENTS)
            if row.key[0] == kind
        ]

    def _statement(self, name: bytes) -> tuple[StatementType, Kept] | None:
        for kind in RECORD_KINDS:
            row = self._store.cache.get(_STATEMENTS, bytes([kind]) + name)
            if row is not None:
                return kind, Kept.decode(row.value)
        return None


_BODIES: dict[StatementType, Callable[[bytes], object]] = {
    StatementType.OFFICER_KEYS: OfficerKeys.decode,
    StatementType.OPENING_REQUEST: OpeningRequest.decode,
    StatementType.OPENING_APPROVAL: OpeningApproval.decode,
    StatementType.SHARE_RELEASE: ShareRelease.decode,
    StatementType.LEGAL_HOLD: LegalHold.decode,
    StatementType.OFFICER_LIVENESS: Liveness.decode,
}
"""What officers sign, and how its body is read."""


def _numbers(value: bytes) -> list[int]:
    return [int.from_bytes(value[at : at + 2], "big") for at in range(0, len(value), 2)]


def _written(numbers: Iterable[int]) -> bytes:
    return b"".join(number.to_bytes(2, "big") for number in sorted(numbers))


def _proven(record: bytes, checkpoint: Checkpoint) -> Proven:
    return Proven(
        index=int.from_bytes(record[_INDEX_AT], "big"),
        at_ms=int.from_bytes(record[_TIME_AT], "big"),
        tree_size=checkpoint.size,
        root=checkpoint.root,
    )
