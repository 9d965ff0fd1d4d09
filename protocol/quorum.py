"""Who may open what, and when: every rule of opening, each at one place.

Pure functions. The officers' devices and the archive both call them, neither trusting the other:
whoever of the two is changed, the other still refuses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from crypto.errors import InvalidError
from protocol.identifiers import UserName, user_name
from protocol.opening import (
    REQUEST_LIFE_MS,
    Hits,
    LegalHold,
    OpeningApproval,
    OpeningRequest,
    Scope,
    SegmentHit,
    ShareRelease,
)

MIN_K = 2
"""Officers who must agree at least: with one, a single officer could open alone."""

SPARE_OFFICERS = 2
"""Officers beyond k at least: that many may be away or lose their keys."""

MAX_OFFICERS = 255
"""Officers at most: a share is numbered by one octet."""

LIVENESS_MS = 31 * 24 * 3600 * 1000
"""How long a proof that an officer's keys are still there counts: a month."""

MIN_PROVEN_BEYOND_K = 1
"""Officers with proved keys beyond k, below which there is an alarm: one more may then be lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quorum:
    """How many officers must agree.

    Attributes:
        k: For an ordinary opening.
        n: Officers.
        emergency_k: For an emergency's, at most ``k``. Segments are split for the smaller of the
            two: that an ordinary opening takes ``k`` is then held by every officer's device and
            by the archive, and by arithmetic only as far as ``emergency_k``.
    """

    k: int
    n: int
    emergency_k: int

    def __post_init__(self) -> None:
        if not MIN_K <= self.emergency_k <= self.k:
            raise InvalidError("an emergency's quorum is at least two and at most k")
        if not self.k + SPARE_OFFICERS <= self.n <= MAX_OFFICERS:
            raise InvalidError("there are at least k + 2 officers and at most 255")

    @property
    def split_k(self) -> int:
        """For how many shares segments are split."""
        return self.emergency_k

    def needed(self, request: OpeningRequest) -> int:
        """Return how many officers must approve a request, and release for it."""
        return self.emergency_k if request.emergency else self.k


class Standing(Enum):
    """Where a request is."""

    OPEN = "waits for approvals"
    APPROVED = "approved"
    REFUSED = "refused: too few officers are left who could approve"
    ENDED = "its time is over"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one officer said to a request.

    Attributes:
        officer: The user who signed.
        approval: The body.
        at_ms: When the archive recorded it.
    """

    officer: UserName
    approval: OpeningApproval
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What the answers to a request come to.

    Attributes:
        standing: Where the request is.
        approved: Officers whose last answer was yes.
        refused: Officers whose last answer was no.
        missing: Approvals that are still needed.
    """

    standing: Standing
    approved: frozenset[UserName]
    refused: frozenset[UserName]
    missing: int


def check_request(request: OpeningRequest, *, issued_ms: int, hits: Hits) -> None:
    """Refuse a request that nobody should approve.

    Args:
        request: The body.
        issued_ms: When it was signed.
        hits: What the archive counted for it.

    Raises:
        InvalidError: It lives too long, looks into the future, names other hits than these, or its
            hits are none, too many or out of its scope.
    """
    if not issued_ms < request.ends_ms <= issued_ms + REQUEST_LIFE_MS:
        raise InvalidError("a request ends within a month")
    if request.scope.until_ms > issued_ms:
        raise InvalidError("a request asks for what is recorded, not for what will be")
    if hits.hash != request.hits:
        raise InvalidError("a request is for the hits that it names")
    if not 0 < hits.records <= request.most_records:
        raise InvalidError("a request's hits are at most as many as it asks for")
    for hit in hits.segments:
        check_in_scope(request.scope, hit)


def check_in_scope(scope: Scope, hit: SegmentHit) -> None:
    """Refuse a segment that a scope does not name, as far as its name and time tell.

    Which members and which patient a segment has the archive knows alone; its count of both is in
    the hits that officers see before they approve.

    Raises:
        InvalidError: It is another conversation's, or of another time.
    """
    if scope.conversations and hit.group_id not in scope.conversations:
        raise InvalidError("a segment of a conversation that is in scope")
    if not (scope.from_ms <= hit.first_ms and hit.last_ms < scope.until_ms):
        raise InvalidError("a segment's records of the period that is in scope")


def tally(
    request: OpeningRequest, answers: Iterable[Answer], *, quorum: Quorum, now_ms: int
) -> Tally:
    """Return where a request is.

    Args:
        request: The body.
        answers: To this request, in the order in which they were recorded. Of one officer the last
            counts; what was recorded after the request's end does not.
        quorum: How many must agree.
        now_ms: Now.
    """
    last: dict[UserName, bool] = {}
    for answer in answers:
        if answer.at_ms <= request.ends_ms:
            last[answer.officer] = answer.approval.granted
    approved = frozenset(officer for officer, granted in last.items() if granted)
    refused = frozenset(officer for officer, granted in last.items() if not granted)
    missing = max(0, quorum.needed(request) - len(approved))
    return Tally(
        standing=_standing(request, quorum, missing=missing, refused=len(refused), now_ms=now_ms),
        approved=approved,
        refused=refused,
        missing=missing,
    )


def _standing(
    request: OpeningRequest, quorum: Quorum, *, missing: int, refused: int, now_ms: int
) -> Standing:
    if now_ms > request.ends_ms:
        return Standing.ENDED
    if not missing:
        return Standing.APPROVED
    return Standing.REFUSED if quorum.n - refused < quorum.needed(request) else Standing.OPEN


def check_approved(
    request: OpeningRequest, answers: Iterable[Answer], *, quorum: Quorum, now_ms: int
) -> frozenset[UserName]:
    """Return who approved a request that may now be released for.

    Raises:
        InvalidError: It is not approved by as many as it takes, or its time is over.
    """
    found = tally(request, answers, quorum=quorum, now_ms=now_ms)
    if found.standing is not Standing.APPROVED:
        raise InvalidError("shares are released for an approved request within its time")
    return found.approved


def check_split(hits: Hits, *, quorum: Quorum) -> None:
    """Refuse segments that fewer officers open than the organisation's quorum asks.

    An officer's device that released for them would help fewer than it believes.

    Raises:
        InvalidError: A segment is split for fewer.
    """
    if any(hit.k < quorum.split_k for hit in hits.segments):
        raise InvalidError("a segment is split for as many officers as the quorum asks")


def check_released(
    request: OpeningRequest,
    releases: Mapping[UserName, ShareRelease],
    *,
    request_hash: bytes,
    quorum: Quorum,
    now_ms: int,
) -> None:
    """Refuse to hand out record keys that not enough officers have released shares for.

    Raises:
        InvalidError: A release is for another request or other segments, they are too few, or the
            request's time is over.
    """
    if now_ms > request.ends_ms:
        raise InvalidError("record keys are handed out within a request's time")
    for release in releases.values():
        if release.request != request_hash or release.hits != request.hits:
            raise InvalidError("a release is for the request and its segments")
    if len(releases) < quorum.needed(request):
        raise InvalidError("record keys are handed out once enough officers have released")


def check_hold(hold: LegalHold, *, known: Mapping[bytes, LegalHold]) -> None:
    """Refuse a hold that ends nothing.

    Args:
        hold: The body.
        known: Holds in force by ``statement_hash``.

    Raises:
        InvalidError: It releases a hold that is not in force, or names another scope than it.
    """
    if hold.is_set:
        return
    held = known.get(hold.released)
    if held is None or held.scope != hold.scope:
        raise InvalidError("what ends a hold names it and its scope")


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How many officers still hold their keys.

    Attributes:
        proven: Who has shown it within the month.
        overdue: Who has not.
        alarm: Whether so few are left that one more loss could end every opening.
    """

    proven: frozenset[UserName]
    overdue: frozenset[UserName]
    alarm: bool


def health(
    officers: Iterable[UserName],
    proofs: Mapping[UserName, int],
    *,
    quorum: Quorum,
    now_ms: int,
) -> Health:
    """Return who has proved to hold their keys.

    Args:
        officers: All of them.
        proofs: When each last answered a challenge rightly, in ms since the epoch.
        quorum: How many must agree.
        now_ms: Now.
    """
    everyone = frozenset(officers)
    proven = frozenset(
        officer
        for officer in everyone
        if officer in proofs and now_ms - LIVENESS_MS <= proofs[officer] <= now_ms
    )
    return Health(
        proven=proven,
        overdue=everyone - proven,
        alarm=len(proven) < quorum.k + MIN_PROVEN_BEYOND_K,
    )


def check_replacement(
    before: Iterable[UserName], after: Iterable[UserName], *, quorum: Quorum
) -> Quorum:
    """Return the quorum with other officers, for whom segments are shared anew.

    Raises:
        InvalidError: A name is none or there twice, fewer than k + 2 are left, or nobody changes.
    """
    new = [user_name(name) for name in after]
    if len(set(new)) != len(new):
        raise InvalidError("an officer is there once")
    if set(new) == set(before):
        raise InvalidError("a replacement changes somebody")
    return Quorum(k=quorum.k, n=len(new), emergency_k=quorum.emergency_k)
