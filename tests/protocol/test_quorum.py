"""The rules of opening, as tables."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto.errors import InvalidError
from protocol.identifiers import UserName
from protocol.opening import REQUEST_LIFE_MS, Hits
from protocol.quorum import (
    LIVENESS_MS,
    Answer,
    Quorum,
    Standing,
    check_approved,
    check_hold,
    check_in_scope,
    check_released,
    check_replacement,
    check_request,
    check_split,
    health,
    tally,
)
from tests.protocol.opening_examples import (
    APPROVAL,
    CLINIC,
    DAY_MS,
    HASH,
    HIT,
    HITS,
    HOLD,
    NOW_MS,
    RELEASE,
    REQUEST,
    SCOPE,
)

QUORUM = Quorum(k=3, n=5, emergency_k=2)
OFFICERS = [UserName(name) for name in ("olga", "omar", "otto", "oona", "odin")]


@pytest.mark.parametrize(
    ("k", "n", "emergency_k"), [(1, 5, 1), (3, 4, 3), (3, 5, 4), (3, 5, 1), (3, 256, 3)]
)
def test_a_quorum_without_two_people_or_spare_officers_is_none(
    k: int, n: int, emergency_k: int
) -> None:
    with pytest.raises(InvalidError):
        Quorum(k=k, n=n, emergency_k=emergency_k)


def said(*words: str, at_ms: int = NOW_MS) -> list[Answer]:
    """Answers written ``olga+`` for yes and ``olga-`` for no."""
    return [
        Answer(
            officer=UserName(word[:-1]),
            approval=replace(APPROVAL, granted=word[-1] == "+", reason="no need"),
            at_ms=at_ms,
        )
        for word in words
    ]


@pytest.mark.parametrize(
    ("words", "emergency", "standing", "missing"),
    [
        ([], False, Standing.OPEN, 3),
        (["olga+"], False, Standing.OPEN, 2),
        (["olga+", "olga+", "olga+"], False, Standing.OPEN, 2),
        (["olga+", "omar+"], False, Standing.OPEN, 1),
        (["olga+", "omar+"], True, Standing.APPROVED, 0),
        (["olga+", "omar+", "otto+"], False, Standing.APPROVED, 0),
        (["olga+", "omar+", "otto+", "olga-"], False, Standing.OPEN, 1),
        (["olga-", "omar+", "otto+", "oona+"], False, Standing.APPROVED, 0),
        (["olga-", "omar-", "otto-"], False, Standing.REFUSED, 3),
        (["olga-", "omar-", "otto-"], True, Standing.OPEN, 2),
        (["olga-", "omar-", "otto-", "otto+"], False, Standing.OPEN, 2),
    ],
)
def test_a_request_stands_where_its_answers_put_it(
    words: list[str], emergency: bool, standing: Standing, missing: int
) -> None:
    request = replace(REQUEST, emergency=emergency)
    found = tally(request, said(*words), quorum=QUORUM, now_ms=NOW_MS)
    assert (found.standing, found.missing) == (standing, missing)
    if standing is Standing.APPROVED:
        assert check_approved(request, said(*words), quorum=QUORUM, now_ms=NOW_MS) == found.approved
    else:
        with pytest.raises(InvalidError):
            check_approved(request, said(*words), quorum=QUORUM, now_ms=NOW_MS)


def test_nothing_counts_after_a_requests_end() -> None:
    everybody = [f"{name}+" for name in OFFICERS]
    late = said(*everybody, at_ms=REQUEST.ends_ms + 1)
    assert tally(REQUEST, late, quorum=QUORUM, now_ms=NOW_MS).standing is Standing.OPEN
    after = tally(REQUEST, said(*everybody), quorum=QUORUM, now_ms=REQUEST.ends_ms + 1)
    assert after.standing is Standing.ENDED


@given(st.lists(st.tuples(st.sampled_from(OFFICERS), st.booleans())), st.booleans())
def test_fewer_people_than_the_quorum_never_approve(
    votes: list[tuple[UserName, bool]], emergency: bool
) -> None:
    request = replace(REQUEST, emergency=emergency)
    words = [f"{name}{'+' if yes else '-'}" for name, yes in votes]
    found = tally(request, said(*words), quorum=QUORUM, now_ms=NOW_MS)
    people = {name for name, yes in votes if yes}
    if found.standing is Standing.APPROVED:
        assert len(people) >= QUORUM.needed(request)
        assert found.approved <= people


@pytest.mark.parametrize(
    ("change", "hits"),
    [
        ({"ends_ms": NOW_MS}, HITS),
        ({"ends_ms": NOW_MS + REQUEST_LIFE_MS + 1}, HITS),
        ({"scope": replace(SCOPE, until_ms=NOW_MS + 1)}, HITS),
        ({"most_records": 41}, HITS),
        ({}, Hits(segments=())),
        ({}, Hits(segments=HITS.segments[:1])),
        ({"scope": replace(SCOPE, conversations=(CLINIC,))}, HITS),
        ({"scope": replace(SCOPE, from_ms=HIT.first_ms + 1)}, HITS),
        ({"scope": replace(SCOPE, until_ms=HIT.last_ms)}, HITS),
    ],
)
def test_a_request_that_nobody_should_approve_is_refused(
    change: dict[str, Any], hits: Hits
) -> None:
    check_request(REQUEST, issued_ms=NOW_MS, hits=HITS)
    with pytest.raises(InvalidError):
        check_request(replace(REQUEST, **change), issued_ms=NOW_MS, hits=hits)


def test_a_request_without_hits_of_its_own_is_refused() -> None:
    none = Hits(segments=())
    with pytest.raises(InvalidError):
        check_request(replace(REQUEST, hits=none.hash), issued_ms=NOW_MS, hits=none)


def test_a_scope_of_people_or_patient_leaves_the_conversation_open() -> None:
    check_in_scope(replace(SCOPE, conversations=()), replace(HIT, group_id=CLINIC))


def test_a_segment_that_fewer_officers_open_is_not_released_for() -> None:
    check_split(HITS, quorum=QUORUM)
    with pytest.raises(InvalidError):
        check_split(HITS, quorum=Quorum(k=3, n=5, emergency_k=3))


def test_record_keys_wait_for_enough_releases_of_the_right_thing() -> None:
    rightly = {name: replace(RELEASE, request=HASH) for name in OFFICERS[:3]}

    def check(releases: Any, *, now_ms: int = NOW_MS, emergency: bool = False) -> None:
        check_released(
            replace(REQUEST, emergency=emergency),
            releases,
            request_hash=HASH,
            quorum=QUORUM,
            now_ms=now_ms,
        )

    check(rightly)
    two = dict(list(rightly.items())[:2])
    check(two, emergency=True)
    for wrong in (
        two,
        {},
        {**rightly, OFFICERS[4]: replace(RELEASE, request=b"x" * 32)},
        {**rightly, OFFICERS[4]: replace(RELEASE, hits=b"x" * 32)},
    ):
        with pytest.raises(InvalidError):
            check(wrong)
    with pytest.raises(InvalidError):
        check(rightly, now_ms=REQUEST.ends_ms + 1)


def test_what_ends_a_hold_names_it_and_its_scope() -> None:
    check_hold(HOLD, known={})
    release = replace(HOLD, released=HASH)
    check_hold(release, known={HASH: HOLD})
    other = replace(HOLD, scope=replace(SCOPE, patient=""))
    for known in ({}, {HASH: other}, {b"x" * 32: HOLD}):
        with pytest.raises(InvalidError):
            check_hold(release, known=known)


@pytest.mark.parametrize(
    ("ages_days", "proven", "alarm"),
    [
        ([0, 10, 20, 31, 31], 5, False),
        ([0, 10, 20, 31, 32], 4, False),
        ([0, 10, 20, 32, 32], 3, True),
        ([0, 10, 20], 3, True),
        ([], 0, True),
        ([-1, 0, 0, 0, 0], 4, False),
    ],
)
def test_too_few_officers_who_proved_their_keys_are_an_alarm(
    ages_days: list[int], proven: int, alarm: bool
) -> None:
    proofs = {name: NOW_MS - age * DAY_MS for name, age in zip(OFFICERS, ages_days, strict=False)}
    found = health(OFFICERS, proofs, quorum=QUORUM, now_ms=NOW_MS)
    assert (len(found.proven), found.alarm) == (proven, alarm)
    assert found.proven | found.overdue == set(OFFICERS)
    assert LIVENESS_MS == 31 * DAY_MS


def test_a_proof_of_somebody_else_counts_for_nothing() -> None:
    found = health(OFFICERS, {UserName("eve"): NOW_MS}, quorum=QUORUM, now_ms=NOW_MS)
    assert found.proven == frozenset()


def test_an_officer_is_replaced_and_the_quorum_stays() -> None:
    new = [*OFFICERS[:4], UserName("olaf")]
    assert check_replacement(OFFICERS, new, quorum=QUORUM) == QUORUM
    assert check_replacement(OFFICERS, [*new, OFFICERS[4]], quorum=QUORUM).n == 6
    for wrong in (OFFICERS, OFFICERS[:4], [*new[:4], new[0]], [*OFFICERS[:4], UserName("O")]):
        with pytest.raises(InvalidError):
            check_replacement(OFFICERS, wrong, quorum=QUORUM)
