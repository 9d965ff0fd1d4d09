"""What the archive does with officers' letters: it verifies, records, answers and hands out shares.

It runs in the process that records, and it can open nothing: shares go out sealed to officers, and
come back sealed to a review session's key, which is elsewhere. Every rule is ``protocol.quorum``'s.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from archive import events, intray
from archive.batch import Entry
from archive.desk import Desk, Filed, Incoming
from archive.errors import ArchiveError
from archive.index import Index
from archive.record import Record, RecordType
from archive.scope import body_at, count
from archive.segment import SealedSegment
from archive.shredding import ARCHIVE_BUCKET, Hold, Release
from archive.store import Store
from client.officer import challenge_context
from crypto.errors import CryptoError, InvalidError, VerificationError
from crypto.sealing import seal_share
from crypto.shares import KEY_BYTES, split
from crypto.statement import statement_type, verify_statement
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
    Topic,
    decode_letter,
    encode_letter,
    join_parts,
)
from protocol.opening import (
    HASH_BYTES,
    Challenge,
    Draft,
    Hits,
    LegalHold,
    Liveness,
    Offer,
    Opened,
    OpeningApproval,
    OpeningRequest,
    RecordProof,
    Scope,
    ShareRelease,
    Shares,
    statement_hash,
)
from protocol.quorum import (
    MIN_PROVEN_BEYOND_K,
    Answer,
    Health,
    Quorum,
    Standing,
    Tally,
    check_hold,
    check_request,
    health,
    tally,
)

CHALLENGE_EVERY_MS = 25 * 24 * 3600 * 1000
"""Age of an officer's last proof at which the next is asked for: days before the month is over."""

CHALLENGE_AGAIN_MS = 3 * 24 * 3600 * 1000
"""An unanswered challenge is replaced after this: a device may have missed it."""

HOLD_MARGIN_MS = 30 * 24 * 3600 * 1000
"""A hold's records cover so much more than its period: a message is recorded after it was sent, and
waits for the archive at the relay."""

HOLDS_EVERY_MS = 3600 * 1000
"""How often it is looked for conversations that a hold covers only since: a person's new ones."""

WARN_EVERY_MS = 24 * 3600 * 1000
"""How often officers are told that too few of them have proved to hold their keys."""

CANARY_MS = 100 * 24 * 3600 * 1000
"""Age of the last opening from which one is due: a quarter, and a week to do it in. Proofs show
that each officer holds keys; an opening alone shows that quorum, archive and review work."""

RECORD_TYPES = {
    StatementType.OPENING_REQUEST: RecordType.REVIEW_REQUEST,
    StatementType.OPENING_APPROVAL: RecordType.APPROVAL,
    StatementType.SHARE_RELEASE: RecordType.SHARE_RELEASE,
    StatementType.LEGAL_HOLD: RecordType.ADMINISTRATIVE_COMMAND,
    StatementType.OFFICER_LIVENESS: RecordType.KEY_CEREMONY,
}
"""As what each statement is recorded; the statement itself is the body."""

_NOTHING = bytes(HASH_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Officers:
    """The organisation's officers.

    Attributes:
        organisation: Fingerprint of the root.
        names: Their user names.
        quorum: How many must agree.
    """

    organisation: bytes
    names: tuple[UserName, ...]
    quorum: Quorum


@dataclass(frozen=True, slots=True, kw_only=True)
class _Statement:
    """A verified statement of an officer."""

    data: bytes
    kind: StatementType
    officer: UserName
    issued_ms: int
    body: bytes


class Casework:
    """The officers' business, worked through step by step.

    Every method raises the archive's errors where a database cannot be used.
    """

    def __init__(
        self, desk: Desk, store: Store, officers: Officers, *, trust: Callable[[], Trust]
    ) -> None:
        """Take the desk.

        Args:
            desk: Where letters come in and go out.
            store: The log's database, whose intray records.
            officers: Who they are.
            trust: The organisation's certified devices, asked each time.
        """
        self._desk = desk
        self._store = store
        self._index = Index(store)
        self._officers = officers
        self._trust = trust
        self._holds_ms = 0
        self._warned_ms = 0
        self._reminded_ms = 0

    def step(self, now_ms: int) -> None:
        """Work through what has come in, and what has come under a cosigned checkpoint since."""
        for incoming in self._desk.incoming():
            self._work(incoming)
        for filed in self._desk.unrecorded():
            self._tell_recorded(filed)
        for request in self._desk.of_kind(StatementType.OPENING_REQUEST):
            self._give_shares(request, now_ms)
        if now_ms - self._holds_ms >= HOLDS_EVERY_MS:
            self._holds_ms = now_ms
            self.extend_holds()
        for officer in self._officers.names:
            self._challenge(officer, now_ms)
        self._warn(now_ms)
        self._remind(now_ms)

    # -- letters --------------------------------------------------------------------------------

    def _work(self, incoming: Incoming) -> None:
        """Do what a letter asks; one that breaks a rule is answered and forgotten."""
        try:
            with self._desk.transaction():
                self._take(decode_letter(incoming.letter), incoming.at_ms)
                self._desk.worked(incoming.number)
        except InvalidError as error:
            self._refuse(incoming, error.rule)
        except CryptoError:
            self._refuse(incoming, "")
        except ArchiveError:
            raise
        except Exception as error:
            # A letter that breaks this program's own code would else stand before all others.
            events.warn("poison", error=type(error).__name__)
            self._refuse(incoming, "")

    def _refuse(self, incoming: Incoming, rule: str) -> None:
        about = sha256(incoming.letter).digest()
        with self._desk.transaction():
            self._desk.worked(incoming.number)
            if rule:
                self._desk.post(encode_letter(Notice(topic=Topic.REFUSED, about=about, words=rule)))

    def _take(self, letter: Letter, at_ms: int) -> None:
        if isinstance(letter, Part):
            self._take_part(letter, at_ms)
        elif isinstance(letter, Draft):
            self._offer(letter)
        elif isinstance(letter, Signed):
            self._take_statement(letter.statement, at_ms)
        elif isinstance(letter, Released):
            self._take_release(letter, at_ms)

    def _take_part(self, part: Part, at_ms: int) -> None:
        kept = self._desk.gather(part.whole, part.number, part.encode(), count=part.count)
        if not kept:
            return
        whole = join_parts(map(Part.decode, kept))
        self._desk.gathered(part.whole)
        if whole is not None:
            self._take(whole, at_ms)

    def _offer(self, draft: Draft) -> None:
        session = self._desk.waiting_session()
        if session is None:
            self._desk.post(encode_letter(Notice(topic=Topic.NO_SESSION, about=draft.nonce)))
            return
        hits = count(self._store, self._index, draft.scope)
        self._desk.keep_hits(hits.hash, hits.encode())
        self._desk.post(encode_letter(Offer(draft=draft, session_key=session, hits=hits.encode())))

    def _take_statement(self, data: bytes, at_ms: int) -> None:
        statement = self._verified(data, at_ms)
        if statement.kind is StatementType.OPENING_REQUEST:
            self._take_request(statement)
        elif statement.kind is StatementType.OPENING_APPROVAL:
            approval = OpeningApproval.decode(statement.body)
            self._request(approval.request)
            self._file(statement, request=approval.request)
        elif statement.kind is StatementType.LEGAL_HOLD:
            check_hold(LegalHold.decode(statement.body), known=self.holds())
            self._file(statement, request=_NOTHING)
        elif statement.kind is StatementType.OFFICER_LIVENESS:
            self._take_liveness(statement, at_ms)

    def _verified(self, data: bytes, at_ms: int) -> _Statement:
        kind = statement_type(data)
        if kind not in RECORD_TYPES and kind is not StatementType.OFFICER_KEYS:
            raise InvalidError("a statement that officers exchange")
        verified = verify_statement(data, expected=kind, trust=self._trust(), at_ms=at_ms)
        identity = verified.signers[0].identity
        if identity is None or identity.user not in self._officers.names:
            raise InvalidError("an officer of this organisation")
        return _Statement(
            data=data,
            kind=kind,
            officer=UserName(identity.user),
            issued_ms=verified.issued_ms,
            body=verified.body,
        )

    def _take_request(self, statement: _Statement) -> None:
        body = OpeningRequest.decode(statement.body)
        hits = self._desk.hits(body.hits)
        if hits is None:
            raise InvalidError("a request is for the hits that it names")
        check_request(body, issued_ms=statement.issued_ms, hits=Hits.decode(hits))
        name = statement_hash(statement.data)
        if self._desk.statement(name) is not None:
            return
        if not self._desk.bind_session(body.session_key, name):
            raise InvalidError("a request names the key of a review session that waits")
        self._file(statement, request=name)
        if body.emergency:
            words = f"{statement.officer}: {body.case}"
            self._desk.post(encode_letter(Notice(topic=Topic.EMERGENCY, about=name, words=words)))

    def _take_release(self, letter: Released, at_ms: int) -> None:
        statement = self._verified(letter.statement, at_ms)
        if statement.kind is not StatementType.SHARE_RELEASE:
            raise InvalidError("shares come with the release that names them")
        body = ShareRelease.decode(statement.body)
        request = self._request(body.request)
        asked = OpeningRequest.decode(request.body)
        standing = self.tally(request, at_ms)
        if standing.standing is not Standing.APPROVED or statement.officer not in standing.approved:
            raise InvalidError("who releases has approved, and so have enough others")
        if body.hits != asked.hits or body.shares != letter.shares.hash:
            raise InvalidError("a release is for the request and its segments")
        if (letter.shares.officer, letter.shares.request) != (statement.officer, request.hash):
            raise InvalidError("shares are released by the officer whose they are")
        self._file(statement, request=request.hash)
        self._desk.keep_shares(request.hash, statement.officer, letter.shares.encode())

    def _request(self, name: bytes) -> Filed:
        request = self._desk.statement(name)
        if request is None or request.kind is not StatementType.OPENING_REQUEST:
            raise InvalidError("a request that is known")
        return request

    def _file(self, statement: _Statement, *, request: bytes) -> None:
        wanted = self._submit(RECORD_TYPES[statement.kind], statement.data)
        self._desk.file(
            Filed(
                hash=statement_hash(statement.data),
                kind=statement.kind,
                officer=statement.officer,
                request=request,
                issued_ms=statement.issued_ms,
                body=statement.body,
                data=statement.data,
                wanted=wanted,
            )
        )

    def _submit(self, kind: RecordType, body: bytes) -> int:
        return intray.submit(self._store, Entry(type=kind, body=body, bucket=ARCHIVE_BUCKET))

    # -- what is recorded -----------------------------------------------------------------------

    def _tell_recorded(self, filed: Filed) -> None:
        """Show officers that a statement is under a cosigned checkpoint, once it is."""
        proof = self._proof(filed)
        if proof is None:
            return
        with self._desk.transaction():
            self._desk.recorded(filed.hash, Record.decode(proof.record).at_ms)
            # Who has come since a hold was sent does not have it.
            is_hold = filed.kind is StatementType.LEGAL_HOLD
            whole = is_hold and LegalHold.decode(filed.body).is_set
            shown = Recorded(statement=filed.data, proof=proof) if whole else proof
            self._desk.post(encode_letter(shown))
        if filed.kind is StatementType.LEGAL_HOLD:
            self._apply_hold(filed)

    def _proof(self, filed: Filed) -> RecordProof | None:
        """Return where a statement stands, under the last cosigned checkpoint; None as yet."""
        receipt = intray.receipt(self._store, filed.wanted)
        found = None if receipt is None else body_at(self._store, receipt.index)
        if receipt is None or found is None:
            return None
        leaf, salt, body = found
        if body != filed.data:
            raise VerificationError
        return RecordProof(statement=filed.hash, record=leaf, salt=salt, proof=receipt.encode())

    def answers(self, request: Filed) -> list[Answer]:
        """Return the recorded answers to a request, in the log's order."""
        return [
            Answer(
                officer=filed.officer,
                approval=OpeningApproval.decode(filed.body),
                at_ms=filed.recorded_ms or 0,
            )
            for filed in self._desk.of_request(request.hash, StatementType.OPENING_APPROVAL)
        ]

    def tally(self, request: Filed, now_ms: int) -> Tally:
        """Return where a request stands."""
        return tally(
            OpeningRequest.decode(request.body),
            self.answers(request),
            quorum=self._officers.quorum,
            now_ms=now_ms,
        )

    def _give_shares(self, request: Filed, now_ms: int) -> None:
        """Send those who approved their sealed shares, once the request is approved."""
        found = self.tally(request, now_ms)
        if found.standing is not Standing.APPROVED:
            return
        for officer in sorted(found.approved):
            with self._desk.transaction():
                if self._desk.give(request.hash, officer):
                    self._desk.post(encode_letter(self._shares_of(request, officer)))

    def _shares_of(self, request: Filed, officer: UserName) -> Shares:
        hits = self._desk.hits(OpeningRequest.decode(request.body).hits)
        segments = () if hits is None else Hits.decode(hits).segments
        sealed = tuple(self._share_of(hit.keys, officer.encode("ascii")) for hit in segments)
        return Shares(request=request.hash, officer=officer, sealed=sealed)

    def _share_of(self, keys: int, officer: bytes) -> bytes:
        """Return an officer's sealed share of a segment, empty where there is none."""
        found = body_at(self._store, keys)
        if found is None:
            return b""
        for share in SealedSegment.decode(found[2]).shares:
            if share.context.officer == officer:
                return share.encode()
        return b""

    # -- holds ----------------------------------------------------------------------------------

    def holds(self) -> dict[bytes, LegalHold]:
        """Return the holds in force by ``statement_hash``."""
        filed = {
            one.hash: LegalHold.decode(one.body)
            for one in self._desk.of_kind(StatementType.LEGAL_HOLD)
        }
        ended = {hold.released for hold in filed.values() if not hold.is_set}
        return {name: one for name, one in filed.items() if one.is_set and name not in ended}

    def extend_holds(self) -> None:
        """Have recorded what the holds in force cover that they did not cover before."""
        for filed in self._desk.of_kind(StatementType.LEGAL_HOLD):
            if filed.hash in self.holds():
                self._apply_hold(filed)

    def _apply_hold(self, filed: Filed) -> None:
        hold = LegalHold.decode(filed.body)
        if hold.is_set:
            self._set_hold(filed, hold)
        else:
            self._end_hold(hold.released)

    def _set_hold(self, filed: Filed, hold: LegalHold) -> None:
        for group_id in self._held_conversations(hold.scope):
            body = Hold(
                group_id=group_id,
                from_ms=hold.scope.from_ms,
                until_ms=hold.scope.until_ms + HOLD_MARGIN_MS,
                set_ms=filed.issued_ms,
            ).encode()
            with self._desk.transaction():
                if self._desk.hold(filed.hash, body):
                    self._submit(RecordType.HOLD_SET, body)

    def _held_conversations(self, scope: Scope) -> Sequence[bytes]:
        hits = count(self._store, self._index, scope)
        found = {hit.group_id for hit in hits.segments}
        # A conversation that is named is held also where nothing of it is there yet.
        if not (scope.people or scope.patient):
            found |= set(scope.conversations)
        return sorted(found)

    def _end_hold(self, name: bytes) -> None:
        for body in self._desk.held(name):
            index = self._store.seen([sha256(body).digest()]).get(sha256(body).digest())
            if index is not None:
                self._submit(RecordType.HOLD_RELEASED, Release(hold=index).encode())
        with self._desk.transaction():
            self._desk.unhold(name)

    def tell_holds(self) -> None:
        """Show officers the holds in force: one of them may have come after a hold was set."""
        holds, letters = self.holds(), list[bytes]()
        for filed in self._desk.of_kind(StatementType.LEGAL_HOLD):
            proof = self._proof(filed) if filed.hash in holds else None
            if proof is not None:
                letters += encode_letter(Recorded(statement=filed.data, proof=proof))
        with self._desk.transaction():
            self._desk.post(tuple(letters))

    # -- liveness -------------------------------------------------------------------------------

    def _challenge(self, officer: UserName, now_ms: int) -> None:
        """Ask an officer's device whether it still holds its keys, once a month."""
        open_since = self._desk.challenge(officer)
        proved_ms = self._desk.proofs().get(officer, 0)
        if now_ms - proved_ms < CHALLENGE_EVERY_MS:
            return
        if open_since is not None and now_ms - open_since[1] < CHALLENGE_AGAIN_MS:
            return
        query = "SELECT bucket, public_key FROM officer_key WHERE officer=? ORDER BY bucket"
        keys = self._store.rows(query, officer)
        if not keys:
            return
        challenge, answer = self._sealed_challenge(officer, keys)
        with self._desk.transaction():
            self._desk.keep_challenge(officer, challenge.hash, now_ms, answer)
            self._desk.post(encode_letter(challenge))

    def _sealed_challenge(
        self, officer: UserName, keys: Sequence[tuple[bytes, bytes]]
    ) -> tuple[Challenge, bytes]:
        """Return a challenge and the body of the statement that answers it rightly."""
        k, n = self._officers.quorum.split_k, self._officers.quorum.n
        empty = Challenge(number=secrets.randbits(63), officer=officer, sealed=())
        sealed, opened = [], []
        for bucket, public_key in keys:
            share = split(secrets.token_bytes(KEY_BYTES), k=k, n=n)[0]
            context = challenge_context(
                self._officers.organisation, empty, bucket=bucket, index=1, split=(k, n)
            )
            sealed.append(seal_share(share, public_key=public_key, context=context).encode())
            opened.append(Opened(bucket=bucket, share=sha256(share.encode()).digest()))
        challenge = Challenge(number=empty.number, officer=officer, sealed=tuple(sealed))
        return challenge, Liveness(challenge=challenge.hash, opened=tuple(opened)).encode()

    def _take_liveness(self, statement: _Statement, at_ms: int) -> None:
        asked = self._desk.challenge(statement.officer)
        if asked is None or asked[2] != statement.body:
            raise InvalidError("an answer opens all that the challenge sealed")
        self._submit(RECORD_TYPES[statement.kind], statement.data)
        self._desk.proved(statement.officer, at_ms)

    def _warn(self, now_ms: int) -> None:
        """Tell the officers, once a day, that too few of them have proved to hold their keys."""
        # At the beginning proofs come one by one: only what was enough once is missed.
        ever = len(self._desk.proofs())
        enough = self._officers.quorum.k + MIN_PROVEN_BEYOND_K
        if now_ms - self._warned_ms < WARN_EVERY_MS or ever < enough:
            return
        found = self.health(now_ms)
        if found.alarm:
            self._warned_ms = now_ms
            words = f"overdue: {', '.join(sorted(found.overdue))}"
            notice = Notice(topic=Topic.FEW_OFFICERS, about=_NOTHING, words=words)
            with self._desk.transaction():
                self._desk.post(encode_letter(notice))

    def _remind(self, now_ms: int) -> None:
        """Tell the officers, once a day, that something is to be opened, to see that it can be."""
        if now_ms - self._reminded_ms < WARN_EVERY_MS or not self.is_opening_due(now_ms):
            return
        self._reminded_ms = now_ms
        words = "the canary is to be opened: see `wardline officer canary`"
        notice = Notice(topic=Topic.OPENING_DUE, about=_NOTHING, words=words)
        with self._desk.transaction():
            self._desk.post(encode_letter(notice))

    def is_opening_due(self, now_ms: int) -> bool:
        """Tell whether nothing was opened for a quarter, since there was anything to open."""
        (began_ms,) = self._store.rows("SELECT min(began_ms) FROM epoch")[0]
        return began_ms is not None and now_ms - max(began_ms, self.opened_ms()) > CANARY_MS

    def opened_ms(self) -> int:
        """Return when as many officers as it takes had last released what was asked for."""
        released: dict[bytes, dict[UserName, int]] = {}
        for filed in self._desk.of_kind(StatementType.SHARE_RELEASE):
            if filed.recorded_ms is not None:
                released.setdefault(filed.request, {})[filed.officer] = filed.recorded_ms
        opened = 0
        for request, times in released.items():
            k = self._officers.quorum.needed(OpeningRequest.decode(self._request(request).body))
            if len(times) >= k:
                opened = max(opened, sorted(times.values())[k - 1])
        return opened

    def health(self, now_ms: int) -> Health:
        """Return who has proved to hold their keys, and whether that is an alarm."""
        return health(
            self._officers.names,
            self._desk.proofs(),
            quorum=self._officers.quorum,
            now_ms=now_ms,
        )
