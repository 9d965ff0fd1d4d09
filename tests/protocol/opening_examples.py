"""One of each body that officers sign, and of each letter."""

from __future__ import annotations

from dataclasses import replace

from protocol.identifiers import UserName
from protocol.letters import Letter, Notice, Part, Recorded, Released, Signed, Topic
from protocol.opening import (
    BUCKET_KEY_BYTES,
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
    RecordProof,
    Scope,
    SegmentHit,
    ShareRelease,
    Shares,
)

NOW_MS = 1_800_000_000_000
DAY_MS = 86_400_000
WARD = b"w" * 32
CLINIC = b"x" * 32
BUCKET = b"clinical 2026Q4"
KEY = bytes(range(256)) * 4 + bytes(BUCKET_KEY_BYTES - 1024)

SCOPE = Scope(
    conversations=(WARD,),
    people=(UserName("ann"), UserName("bob")),
    patient="Müller, 4711",
    from_ms=NOW_MS - 30 * DAY_MS,
    until_ms=NOW_MS - DAY_MS,
)
HIT = SegmentHit(
    group_id=WARD,
    epoch=3,
    bucket=BUCKET,
    k=2,
    n=5,
    keys=17,
    records=40,
    first_ms=NOW_MS - 20 * DAY_MS,
    last_ms=NOW_MS - 10 * DAY_MS,
)
HITS = Hits(segments=(HIT, replace(HIT, epoch=4, keys=99, records=2)))
REQUEST = OpeningRequest(
    purpose=Purpose.REVIEW,
    emergency=False,
    case="2026-118",
    reason="Complaint of the family,\nletter of 3 November",
    scope=SCOPE,
    ends_ms=NOW_MS + 7 * DAY_MS,
    most_records=100,
    session_key=KEY,
    hits=HITS.hash,
)
HASH = b"h" * 32
APPROVAL = OpeningApproval(request=HASH, granted=True, tree_size=1000, root=b"r" * 32)
RELEASE = ShareRelease(
    request=HASH, hits=HITS.hash, shares=b"s" * 32, tree_size=1200, root=b"q" * 32
)
HOLD = LegalHold(case="2026-118", reason="Law suit", scope=SCOPE)
KEYS = OfficerKeys(
    keys=(
        BucketKey(bucket=b"clinical 2026Q4", public_key=KEY),
        BucketKey(bucket=b"clinical 2027Q1", public_key=KEY[::-1]),
    )
)
LIVENESS = Liveness(challenge=HASH, opened=(Opened(bucket=BUCKET, share=b"o" * 32),))
DRAFT = Draft(purpose=Purpose.REVIEW, scope=SCOPE, nonce=b"n" * 32)
OFFER = Offer(draft=DRAFT, session_key=KEY, hits=HITS.encode())
SHARES = Shares(request=HASH, officer=UserName("olga"), sealed=(b"one", b"two"))
CHALLENGE = Challenge(number=3, officer=UserName("olga"), sealed=(b"one",))
PROOF = RecordProof(statement=HASH, record=b"r" * 199, salt=b"s" * 32, proof=b"proof")

BODIES = (REQUEST, APPROVAL, RELEASE, HOLD, KEYS, LIVENESS, HITS)
LETTERS: tuple[Letter, ...] = (
    Signed(statement=b"statement"),
    DRAFT,
    OFFER,
    PROOF,
    SHARES,
    Released(statement=b"statement", shares=SHARES),
    CHALLENGE,
    Notice(topic=Topic.EMERGENCY, about=HASH, words="case 2026-118"),
    Part(whole=HASH, number=0, count=2, data=b"part"),
    Recorded(statement=b"hold", proof=PROOF),
)
