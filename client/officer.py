"""What a compliance officer's device does: keys, requests, approvals, releases, holds, liveness.

The device trusts neither the archive nor another officer. It signs only what it has checked, and
it releases shares only after it has itself seen the request and enough approvals in a checkpoint
that a witness cosigned; only those of the segments that the request names; and only to the one-time
key that the request names, which every approval has signed with it.

Everything here is a value or bytes: letters come from the officers' conversation and go there.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import sha256

from client.officer_book import Book, Filed, LogPolicy, Proven
from client.store import Store
from crypto.errors import InvalidError, VerificationError
from crypto.sealing import SealedShare, ShareContext, open_share, seal_share
from crypto.statement import Signatory, sign_statement
from crypto.statement_types import RULES, StatementType
from crypto.trust import Trust
from crypto.xwing import XWingKey
from protocol.identifiers import UserName
from protocol.letters import Letter, Notice, Released, Signed, Topic, encode_letter
from protocol.opening import (
    HASH_BYTES,
    KEYS_PER_STATEMENT,
    REQUEST_LIFE_MS,
    BucketKey,
    Challenge,
    Draft,
    Hits,
    LegalHold,
    Liveness,
    Offer,
    OfficerKeys,
    Opened,
    OpeningApproval,
    OpeningRequest,
    Purpose,
    Scope,
    SegmentHit,
    ShareRelease,
    Shares,
)
from protocol.quorum import (
    Quorum,
    Standing,
    Tally,
    check_approved,
    check_hold,
    check_request,
    check_split,
    tally,
)
from protocol.retention import CLASSES, Bucket, wanted_buckets

LIVENESS_GROUP = b"Wardline 1 officer liveness"
"""Stands for the conversation in a challenge's shares: no conversation's id has its length."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class OfficerIdentity:
    """Who the officer is.

    Attributes:
        organisation: Fingerprint of the root.
        user: The person: shares are sealed in this name.
        signatory: Signs as an officer.
    """

    organisation: bytes
    user: UserName
    signatory: Signatory


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyView:
    """One of the device's bucket keys.

    Attributes:
        bucket: Which.
        ends_ms: When it is to be destroyed, unless a hold stops that.
        is_over: Whether that is now.
    """

    bucket: Bucket
    ends_ms: int
    is_over: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A request as an officer sees it.

    Attributes:
        filed: The request and what is known of it.
        tally: Where it stands.
        has_shares: Whether the archive has sent this officer's shares.
        is_released: Whether this device has released them.
    """

    filed: Filed
    tally: Tally
    has_shares: bool
    is_released: bool

    @property
    def is_unproven(self) -> bool:
        """Whether the archive has yet to show it in its log, with what it hits."""
        return self.filed.proven is None or self.filed.hits is None

    @property
    def is_incomplete(self) -> bool:
        """Whether the archive has yet to show an answer, or to send the shares of who approved."""
        approved = self.tally.standing is Standing.APPROVED
        return bool(self.filed.waiting) or (approved and not self.has_shares)


class Officer:
    """An officer's device.

    Beside what each method names, all raise the store's errors.
    """

    def __init__(
        self,
        store: Store,
        identity: OfficerIdentity,
        *,
        trust: Callable[[], Trust],
        policy: Callable[[], LogPolicy],
        quorum: Quorum,
    ) -> None:
        """Take the store.

        Args:
            store: The device's.
            identity: Who the officer is.
            trust: The organisation's certified devices, asked each time.
            policy: Whose checkpoints count, asked each time.
            quorum: From the ceremony, never from the archive.
        """
        self._me = identity
        self._quorum = quorum
        self._book = Book(store, trust=trust, policy=policy)

    def receive(self, data: bytes, *, now_ms: int) -> Letter | None:
        """Keep what a letter says; return it once it is whole.

        Raises:
            DecodeError: The bytes are no letter.
            InvalidError: A rule is broken, which is named.
            VerificationError: A signature, proof or cosignature does not verify.
        """
        return self._book.take(data, me=self._me.user, now_ms=now_ms)

    # -- keys -----------------------------------------------------------------------------------

    def begin(
        self,
        *,
        now_ms: int,
        classes: Iterable[str] = tuple(CLASSES),
        buckets: Iterable[Bucket] = (),
        anew: bool = False,
    ) -> tuple[bytes, ...]:
        """Make the keys that are missing, for this quarter and four ahead; return the letters.

        Args:
            now_ms: Now.
            classes: Retention classes.
            buckets: Further ones, for a new officer to whom older segments are shared anew.
            anew: Certify those that are there already once more, where a letter may be lost.
        """
        made: list[BucketKey] = []
        for bucket in sorted({*wanted_buckets(classes, now_ms), *buckets}):
            seed = self._book.seed(bucket.name)
            if seed is None:
                key = XWingKey.generate()
                self._book.keep_seed(bucket.name, key.seed)
            elif anew:
                key = XWingKey.from_seed(seed)
            else:
                continue
            made.append(BucketKey(bucket=bucket.name, public_key=key.public_key))
        made.sort(key=lambda key: key.bucket)
        runs = [
            made[at : at + KEYS_PER_STATEMENT] for at in range(0, len(made), KEYS_PER_STATEMENT)
        ]
        return tuple(
            letter
            for run in runs
            for letter in self._signed(
                StatementType.OFFICER_KEYS, OfficerKeys(keys=tuple(run)).encode(), now_ms=now_ms
            )
        )

    def keys(self, *, now_ms: int) -> list[KeyView]:
        """Return the device's bucket keys, oldest first."""
        views = [
            KeyView(bucket=bucket, ends_ms=bucket.ends_ms(), is_over=now_ms >= bucket.ends_ms())
            for bucket in map(Bucket.decode, self._book.buckets())
        ]
        return sorted(views, key=lambda view: (view.ends_ms, view.bucket))

    def destroy_ended_keys(self, *, now_ms: int, held_are_reshared: bool = False) -> list[Bucket]:
        """Destroy the keys of buckets whose end has come; return which.

        Args:
            now_ms: Now.
            held_are_reshared: Whether what holds keep was shared anew to a later bucket. Without
                it a key stays while a hold covers a part of its quarter.
        """
        gone = []
        for view in self.keys(now_ms=now_ms):
            if view.is_over and (held_are_reshared or not self._is_held(view.bucket)):
                self._book.destroy_seed(view.bucket.name)
                gone.append(view.bucket)
        return gone

    def _is_held(self, bucket: Bucket) -> bool:
        return any(
            hold.scope.from_ms < bucket.closes_ms and bucket.begins_ms < hold.scope.until_ms
            for hold in self._book.holds().values()
        )

    # -- asking ---------------------------------------------------------------------------------

    def draft(self, scope: Scope, *, purpose: Purpose = Purpose.REVIEW) -> tuple[bytes, ...]:
        """Return the letters that ask the archive what a scope hits."""
        nonce = secrets.token_bytes(HASH_BYTES)
        return encode_letter(Draft(purpose=purpose, scope=scope, nonce=nonce))

    def offers(self) -> list[Offer]:
        """Return the archive's answers to drafts, newest first."""
        return self._book.offers()

    def request(
        self,
        nonce: bytes,
        *,
        case: str,
        reason: str,
        now_ms: int,
        emergency: bool = False,
        life_ms: int = REQUEST_LIFE_MS,
        most_records: int | None = None,
    ) -> tuple[bytes, ...]:
        """Return the letters with the signed request for what an offer counted.

        Args:
            nonce: Of the draft that the offer answers.
            case: The house's reference.
            reason: Why.
            now_ms: Now.
            emergency: Whether the emergency's quorum is asked, with notice to every officer.
            life_ms: How long it may be approved and used.
            most_records: As many as were counted, where it is not given.

        Raises:
            InvalidError: There is no such offer, or the request breaks a rule.
        """
        offer = self._book.offer(nonce)
        if offer is None:
            raise InvalidError("a request follows an offer of the archive")
        hits = Hits.decode(offer.hits)
        body = OpeningRequest(
            purpose=offer.draft.purpose,
            emergency=emergency,
            case=case,
            reason=reason,
            scope=offer.draft.scope,
            ends_ms=now_ms + life_ms,
            most_records=hits.records if most_records is None else most_records,
            session_key=offer.session_key,
            hits=hits.hash,
        )
        check_request(body, issued_ms=now_ms, hits=hits)
        return self._signed(StatementType.OPENING_REQUEST, body.encode(), now_ms=now_ms)

    def request_canary(self, conversation: bytes, *, now_ms: int) -> tuple[bytes, ...]:
        """Return the letters that ask for the canary, as the archive offered it last.

        Whatever the archive calls a canary: nothing but a part of the officers' own conversation
        is asked for by this.

        Args:
            conversation: The officers' own.
            now_ms: Now.

        Raises:
            InvalidError: It offered none, or something else.
        """
        told = [one.about for _, one in self.notices() if one.topic is Topic.OPENING_DUE]
        offers = [offer for about in told if (offer := self._book.offer(about)) is not None]
        if not offers:
            raise InvalidError("the archive offers its canary when that is due")
        draft = offers[-1].draft
        scope = draft.scope
        own = (scope.conversations, scope.people, scope.patient) == ((conversation,), (), "")
        if draft.purpose is not Purpose.REVIEW or not own:
            raise InvalidError("the canary is in the officers' own conversation")
        return self.request(
            draft.nonce, case="canary", reason="Quarterly opening of the canary", now_ms=now_ms
        )

    # -- deciding -------------------------------------------------------------------------------

    def cases(self, *, now_ms: int) -> list[Case]:
        """Return every request that is known, oldest first."""
        return [self._case(filed, now_ms) for filed in self._book.requests()]

    def _case(self, filed: Filed, now_ms: int) -> Case:
        return Case(
            filed=filed,
            tally=tally(filed.body, filed.answers, quorum=self._quorum, now_ms=now_ms),
            has_shares=self._book.shares(filed.hash) is not None,
            is_released=self._book.released(filed.hash) is not None,
        )

    def approve(self, request: bytes, *, now_ms: int) -> tuple[bytes, ...]:
        """Return the letters that approve a request.

        Args:
            request: Its ``statement_hash``.
            now_ms: Now.

        Raises:
            InvalidError: It is not known, not shown in a cosigned checkpoint, its hits did not
                come, or it breaks a rule.
        """
        filed, proven, _ = self._checked(request)
        if now_ms > filed.body.ends_ms:
            raise InvalidError("a request is approved within its time")
        body = OpeningApproval(
            request=request, granted=True, tree_size=proven.tree_size, root=proven.root
        )
        return self._signed(StatementType.OPENING_APPROVAL, body.encode(), now_ms=now_ms)

    def refuse(self, request: bytes, *, reason: str, now_ms: int) -> tuple[bytes, ...]:
        """Return the letters that refuse a request, or take an approval back.

        Raises:
            InvalidError: It is not known, or not shown in a cosigned checkpoint.
        """
        _, proven = self._proven(request)
        body = OpeningApproval(
            request=request,
            granted=False,
            reason=reason,
            tree_size=proven.tree_size,
            root=proven.root,
        )
        return self._signed(StatementType.OPENING_APPROVAL, body.encode(), now_ms=now_ms)

    def release(self, request: bytes, *, now_ms: int) -> tuple[bytes, ...]:
        """Return the letters that release this officer's shares for an approved request.

        What was released once is returned again as it was; nothing is sealed a second time.

        Args:
            request: Its ``statement_hash``.
            now_ms: Now.

        Raises:
            InvalidError: The request is not to be released for, which rule says why; or the shares
                did not come, or this device holds no key for them.
            VerificationError: A share is not what the request's segments say.
        """
        filed, _, hits = self._checked(request)
        approved = check_approved(filed.body, filed.answers, quorum=self._quorum, now_ms=now_ms)
        if self._me.user not in approved:
            raise InvalidError("who releases has approved")
        before = self._book.released(request)
        if before is not None:
            return encode_letter(before)
        shares = self._resealed(request, filed.body, hits)
        return self._released(filed, shares, now_ms=now_ms)

    def _released(self, filed: Filed, shares: Shares, *, now_ms: int) -> tuple[bytes, ...]:
        proven = self._book.newest_proof(filed.hash)
        if proven is None:
            raise InvalidError("a request is shown in a cosigned checkpoint")
        body = ShareRelease(
            request=filed.hash,
            hits=filed.body.hits,
            shares=shares.hash,
            tree_size=proven.tree_size,
            root=proven.root,
        )
        statement = self._statement(StatementType.SHARE_RELEASE, body.encode(), now_ms=now_ms)
        letter = Released(statement=statement, shares=shares)
        self._book.keep_statement(statement, now_ms=now_ms)
        self._book.keep_released(filed.hash, letter, now_ms=now_ms)
        return encode_letter(letter)

    def _proven(self, request: bytes) -> tuple[Filed, Proven]:
        filed = self._book.request(request)
        if filed is None:
            raise InvalidError("a request that is known")
        if filed.proven is None:
            raise InvalidError("a request is shown in a cosigned checkpoint")
        return filed, filed.proven

    def _checked(self, request: bytes) -> tuple[Filed, Proven, Hits]:
        """Return a request that this device has checked in all that it can check."""
        filed, proven = self._proven(request)
        if filed.hits is None:
            raise InvalidError("a request's hits have come here")
        check_request(filed.body, issued_ms=filed.issued_ms, hits=filed.hits)
        check_split(filed.hits, quorum=self._quorum)
        for answer in filed.answers:
            if answer.approval.tree_size <= proven.index:
                raise InvalidError("an approval's checkpoint contains the request")
        return filed, proven, filed.hits

    def _resealed(self, request: bytes, body: OpeningRequest, hits: Hits) -> Shares:
        """Return this officer's shares of exactly the hits' segments, for the session's key."""
        held = self._book.shares(request)
        if held is None or len(held.sealed) != len(hits.segments):
            raise InvalidError("the archive has sent a share for each segment")
        # Who became an officer later has no share of what was sealed before: an empty one is there.
        sealed = tuple(
            self._reseal(SealedShare.decode(data), hit, session_key=body.session_key)
            if data
            else b""
            for data, hit in zip(held.sealed, hits.segments, strict=True)
        )
        return Shares(request=request, officer=self._me.user, sealed=sealed)

    def _reseal(self, sealed: SealedShare, hit: SegmentHit, *, session_key: bytes) -> bytes:
        expected = ShareContext(
            organisation=self._me.organisation,
            group_id=hit.group_id,
            epoch=hit.epoch,
            bucket=hit.bucket,
            officer=self._me.user.encode("ascii"),
            # Which of the n it is, is all that the hits leave open; HPKE binds it.
            index=sealed.context.index,
            k=hit.k,
            n=hit.n,
        )
        share = open_share(sealed, key=self._key(hit.bucket), expected=expected)
        return seal_share(share, public_key=session_key, context=expected).encode()

    def _key(self, bucket: bytes) -> XWingKey:
        seed = self._book.seed(bucket)
        if seed is None:
            raise InvalidError("this device holds a key of the bucket")
        return XWingKey.from_seed(seed)

    # -- holds and liveness ---------------------------------------------------------------------

    def hold(self, scope: Scope, *, case: str, reason: str, now_ms: int) -> tuple[bytes, ...]:
        """Return the letters that set a hold.

        Raises:
            InvalidError: A text is empty or too long.
        """
        body = LegalHold(case=case, reason=reason, scope=scope)
        return self._signed(StatementType.LEGAL_HOLD, body.encode(), now_ms=now_ms)

    def lift(self, hold: bytes, *, reason: str, now_ms: int) -> tuple[bytes, ...]:
        """Return the letters that end a hold.

        Raises:
            InvalidError: No such hold is in force.
        """
        known = self._book.holds()
        if hold not in known:
            raise InvalidError("what ends a hold names it and its scope")
        held = known[hold]
        body = LegalHold(case=held.case, reason=reason, scope=held.scope, released=hold)
        check_hold(body, known=known)
        return self._signed(StatementType.LEGAL_HOLD, body.encode(), now_ms=now_ms)

    def holds(self) -> dict[bytes, LegalHold]:
        """Return the holds in force by ``statement_hash``."""
        return self._book.holds()

    def prove_liveness(self, *, now_ms: int) -> tuple[bytes, ...]:
        """Return the letters that answer the archive's newest challenge; none where there is none.

        Raises:
            InvalidError: No key of this device opens anything of the challenge.
        """
        challenge = self._book.challenge()
        if challenge is None:
            return ()
        opened = sorted(self._opened(challenge), key=lambda one: one.bucket)
        body = Liveness(challenge=challenge.hash, opened=tuple(opened))
        return self._signed(StatementType.OFFICER_LIVENESS, body.encode(), now_ms=now_ms)

    def _opened(self, challenge: Challenge) -> Iterable[Opened]:
        for data in challenge.sealed:
            sealed = SealedShare.decode(data)
            context = sealed.context
            expected = challenge_context(
                self._me.organisation,
                challenge,
                bucket=context.bucket,
                index=context.index,
                split=(context.k, context.n),
            )
            try:
                share = open_share(sealed, key=self._key(context.bucket), expected=expected)
            except (InvalidError, VerificationError):
                continue  # what this device cannot open is what the archive learns by its absence
            yield Opened(bucket=context.bucket, share=sha256(share.encode()).digest())

    def notices(self) -> list[tuple[int, Notice]]:
        """Return what the archive told the officers, with when it came, newest last."""
        return self._book.notices()

    # -- signing --------------------------------------------------------------------------------

    def _statement(self, kind: StatementType, body: bytes, *, now_ms: int) -> bytes:
        return sign_statement(
            kind,
            body,
            organisation=self._me.organisation,
            issued_ms=now_ms,
            lifetime_ms=RULES[kind].lifetime_ms,
            signatory=self._me.signatory,
        )

    def _signed(self, kind: StatementType, body: bytes, *, now_ms: int) -> tuple[bytes, ...]:
        """Sign, keep as if it had come, and return the letters."""
        data = self._statement(kind, body, now_ms=now_ms)
        self._book.keep_statement(data, now_ms=now_ms)
        return encode_letter(Signed(statement=data))


def challenge_context(
    organisation: bytes, challenge: Challenge, *, bucket: bytes, index: int, split: tuple[int, int]
) -> ShareContext:
    """Return what a challenge's share of one bucket is for; no segment's share is for that.

    Raises:
        InvalidError: A part is out of range.
    """
    k, n = split
    return ShareContext(
        organisation=organisation,
        group_id=LIVENESS_GROUP,
        epoch=challenge.number,
        bucket=bucket,
        officer=challenge.officer.encode("ascii"),
        index=index,
        k=k,
        n=n,
    )
