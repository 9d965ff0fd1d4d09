"""Handing out a scope's record keys: only when everything that permits it is witnessed.

Request, approvals, releases and the archive's own record of the hand-out are each looked up in the
log, proved under a checkpoint that the witness cosigned, verified again and judged again. Killed
anywhere, nothing has left that the log does not say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256

from archive import intray
from archive.batch import Entry
from archive.casework import Officers
from archive.desk import Desk, Filed
from archive.errors import DamagedError, NotWitnessedError, SessionError
from archive.index import EpochPlace, Index, Place
from archive.opening_reading import Member, Recorded, Segment
from archive.opening_records import HandOut
from archive.record import Record, RecordType
from archive.roster import Roster
from archive.scope import body_at, messages_of
from archive.shredding import ARCHIVE_BUCKET
from archive.store import Store
from client.officer_book import LogPolicy
from crypto.errors import CryptoError, InvalidError
from crypto.log_proof import LogProof
from crypto.merkle import leaf_hash
from crypto.statement import VerifiedStatement, verify_statement
from crypto.statement_types import StatementType
from crypto.trust import Trust
from protocol.identifiers import UserName
from protocol.letters import Notice, Topic, encode_letter
from protocol.opening import (
    Hits,
    OpeningApproval,
    OpeningRequest,
    SegmentHit,
    ShareRelease,
    Shares,
)
from protocol.quorum import Answer, check_approved, check_released, check_request

_TYPES = {
    StatementType.OPENING_REQUEST: RecordType.REVIEW_REQUEST,
    StatementType.OPENING_APPROVAL: RecordType.APPROVAL,
    StatementType.SHARE_RELEASE: RecordType.SHARE_RELEASE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """An opening that may take place: everything that permits it is witnessed and in force.

    Attributes:
        hash: The request's ``statement_hash``.
        request: What was asked.
        hits: Segments in scope.
        releases: Each officer's release, by officer.
        shares: What each released.
        statements: Request, approvals and releases as they stand in the log.
    """

    hash: bytes
    request: OpeningRequest
    hits: Hits
    releases: dict[UserName, bytes]
    shares: dict[UserName, Shares] = field(repr=False)
    statements: tuple[Filed, ...] = field(repr=False)


class HandingOut:
    """The one way by which record keys leave the archive."""

    def __init__(
        self,
        desk: Desk,
        store: Store,
        officers: Officers,
        *,
        trust: Callable[[], Trust],
        policy: LogPolicy,
    ) -> None:
        """Take the log.

        Args:
            desk: Where statements and released shares are.
            store: The log's database.
            officers: Who they are.
            trust: The organisation's certified devices.
            policy: The *configured* keys of log and witnesses.
        """
        self._desk = desk
        self._store = store
        self._index = Index(store)
        self._officers = officers
        self._trust = trust
        self._policy = policy

    def permit(self, name: bytes, *, now_ms: int) -> Permit:
        """Return the permit for a request, after checking all that it rests on, anew.

        Args:
            name: The request's ``statement_hash``.
            now_ms: Now.

        Raises:
            NotWitnessedError: Something of it is not under a cosigned checkpoint as yet.
            InvalidError: It is not permitted; the rule says why.
            VerificationError: A signature, proof or cosignature does not verify.
            DamagedError: What is recorded is not what the desk has.
        """
        filed = self._desk.statement(name)
        if filed is None or filed.kind is not StatementType.OPENING_REQUEST:
            raise InvalidError("a request that is known")
        asked = self._witnessed(filed)
        request = OpeningRequest.decode(asked.body)
        hits = Hits.decode(self._desk.hits(request.hits) or b"")
        check_request(request, issued_ms=asked.issued_ms, hits=hits)
        approvals = self._desk.of_request(name, StatementType.OPENING_APPROVAL)
        approved = self._approved(name, request, approvals, now_ms)
        released = self._released(name, approved)
        bodies = {who: ShareRelease.decode(one.body) for who, one in released.items()}
        check_released(
            request, bodies, request_hash=name, quorum=self._officers.quorum, now_ms=now_ms
        )
        return Permit(
            hash=name,
            request=request,
            hits=hits,
            releases={who: one.hash for who, one in released.items()},
            shares=self._shares(name, bodies),
            statements=(filed, *approvals, *released.values()),
        )

    def _approved(
        self, name: bytes, request: OpeningRequest, approvals: list[Filed], now_ms: int
    ) -> frozenset[UserName]:
        answers = []
        for filed in approvals:
            approval = OpeningApproval.decode(self._witnessed(filed).body)
            if approval.request != name:
                raise DamagedError("desk")
            at_ms = filed.recorded_ms or 0
            answers.append(Answer(officer=filed.officer, approval=approval, at_ms=at_ms))
        return check_approved(request, answers, quorum=self._officers.quorum, now_ms=now_ms)

    def _released(self, name: bytes, approved: frozenset[UserName]) -> dict[UserName, Filed]:
        found = {}
        for filed in self._desk.of_request(name, StatementType.SHARE_RELEASE):
            self._witnessed(filed)
            if filed.officer in approved:
                found[filed.officer] = filed
        return found

    def _shares(self, name: bytes, bodies: dict[UserName, ShareRelease]) -> dict[UserName, Shares]:
        kept = self._desk.shares(name)
        found = {}
        for officer, body in bodies.items():
            if officer not in kept:
                raise SessionError
            shares = Shares.decode(kept[officer])
            if shares.hash != body.shares or shares.officer != officer:
                raise DamagedError("desk")
            found[officer] = shares
        return found

    def _witnessed(self, filed: Filed) -> VerifiedStatement:
        """Return a statement verified anew, which the log has under a cosigned checkpoint."""
        leaf, body = self._proved(filed.wanted)
        record = Record.decode(leaf)
        if body != filed.data or record.type is not _TYPES.get(filed.kind):
            raise DamagedError("desk")
        verified = verify_statement(
            body, expected=filed.kind, trust=self._trust(), at_ms=record.at_ms
        )
        identity = verified.signers[0].identity
        if identity is None or identity.user != filed.officer or verified.body != filed.body:
            raise DamagedError("desk")
        return verified

    def _proved(self, wanted: int) -> tuple[bytes, bytes]:
        """Return record and body of what was handed in, proved under a cosigned checkpoint."""
        receipt = intray.receipt(self._store, wanted)
        found = None if receipt is None else body_at(self._store, receipt.index)
        if receipt is None or found is None:
            raise NotWitnessedError
        receipt = LogProof.decode(receipt.encode())
        receipt.verify(leaf=leaf_hash(found[0]), key=self._policy.log)
        self._policy.checkpoint(receipt.note)
        return found[0], found[2]

    # -- the hand-out ---------------------------------------------------------------------------

    def announce(self, permit: Permit, *, verifier: bytes) -> int:
        """Have the hand-out recorded; return the number by which ``segments`` asks for it.

        However often it is called for one permit, it is one record, and officers are told once.

        Args:
            permit: What permits it.
            verifier: SHA-256 of the verifier's file.

        Raises:
            ArchiveError: It was not handed in.
        """
        body = HandOut(
            request=permit.hash,
            hits=permit.request.hits,
            releases=tuple(sorted(permit.releases.values())),
            verifier=verifier,
        ).encode()
        entry = Entry(type=RecordType.SHARE_RELEASE, body=body, bucket=ARCHIVE_BUCKET)
        if not self._store.seen([sha256(body).digest()]):
            notice = Notice(topic=Topic.OPENED, about=permit.hash, words=permit.request.case)
            with self._desk.transaction():
                self._desk.post(encode_letter(notice))
        return intray.submit(self._store, entry)

    def segments(self, name: bytes, announced: int, *, now_ms: int) -> Iterator[Segment]:
        """Yield all that a request's scope holds, decrypted from the record keys.

        Args:
            name: The request's ``statement_hash``.
            announced: What ``announce`` returned.
            now_ms: Now.

        Raises:
            NotWitnessedError: The hand-out's record is not under a cosigned checkpoint as yet;
                nothing was handed out.
            InvalidError: It is not permitted, or there are more records than were asked for.
            VerificationError: A signature, proof or cosignature does not verify.
            DamagedError: A record is not what was written.
        """
        permit = self.permit(name, now_ms=now_ms)
        self._check_announced(permit, announced)
        places = self._places(permit)
        if sum(len(found) for _, found in places) > permit.request.most_records:
            raise InvalidError("no more records are handed out than were asked for")
        for at, (hit, found) in enumerate(places):
            yield self._segment(hit, found, permit=permit, at=at)

    def _check_announced(self, permit: Permit, announced: int) -> None:
        leaf, body = self._proved(announced)
        if Record.decode(leaf).type is not RecordType.SHARE_RELEASE:
            raise NotWitnessedError
        try:
            record = HandOut.decode(body)
        except CryptoError:
            raise NotWitnessedError from None
        wanted = (permit.hash, permit.request.hits, tuple(sorted(permit.releases.values())))
        if (record.request, record.hits, record.releases) != wanted:
            raise NotWitnessedError

    def _places(self, permit: Permit) -> list[tuple[SegmentHit, list[Place]]]:
        scope = permit.request.scope
        by_group = {
            group_id: messages_of(self._index, scope, group_id)
            for group_id in {hit.group_id for hit in permit.hits.segments}
        }
        return [(hit, by_group[hit.group_id].get(hit.epoch, [])) for hit in permit.hits.segments]

    def _segment(self, hit: SegmentHit, found: list[Place], *, permit: Permit, at: int) -> Segment:
        sealed = body_at(self._store, hit.keys)
        if sealed is None:
            raise DamagedError("segment")
        return Segment(
            sealed=sealed[2],
            shares={who: shares.sealed[at] for who, shares in permit.shares.items()},
            members=self.members(hit.group_id, hit.epoch),
            messages=tuple(
                Recorded(
                    index=place.index,
                    sequence=place.sequence,
                    sent_ms=place.sent_ms,
                    message=body[2],
                )
                for place in sorted(found, key=lambda place: place.sequence)
                if (body := body_at(self._store, place.index)) is not None
            ),
        )

    def epoch(self, group_id: bytes, epoch: int) -> EpochPlace | None:
        """Return where an epoch's keys and roster are recorded, or None."""
        for place in self._index.epochs(group_id):
            if place.epoch == epoch:
                return place
        return None

    def members(self, group_id: bytes, epoch: int) -> tuple[Member, ...]:
        """Return who was in an epoch, with their certificates as they are recorded.

        Raises:
            DamagedError: The roster or a certificate is missing or changed.
        """
        place = self.epoch(group_id, epoch)
        found = None if place is None else body_at(self._store, place.roster)
        if found is None:
            raise DamagedError("roster")
        try:
            roster = Roster.decode(found[2])
        except CryptoError:
            raise DamagedError("roster") from None
        return tuple(
            Member(leaf=leaf, certificate=self.certificate(name)) for leaf, name in roster.members
        )

    def certificate(self, name: bytes) -> bytes:
        """Return a recorded certificate by its fingerprint.

        Raises:
            DamagedError: It is not recorded.
        """
        index = self._store.seen([name]).get(name)
        found = None if index is None else body_at(self._store, index)
        if found is None:
            raise DamagedError("certificate")
        return found[2]
