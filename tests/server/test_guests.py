"""What the relay lets through of emergency access: it verifies what members verify, and policy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from crypto.names import Role
from crypto.statement import Purpose, StatementType, countersign_statement, sign_statement
from protocol.authenticated_data import CommitData
from protocol.emergency import Emergency, guest_of
from protocol.errors import Code
from protocol.group_context import WardlineContext
from protocol.identifiers import ConversationId, DeviceId, UserName
from protocol.policy import Action, Policy
from server import access
from server.guests import may_change_guests
from tests.flipped import flipped
from tests.server.harness import RECORDER, Hospital, context, hospital, now_ms

HERE = ConversationId(b"h" * 32)
HOUR_MS = 3_600_000
ANN, BOB, CAT, DAN = (DeviceId(f"{user}/phone") for user in ("ann", "bob", "cat", "dan"))
READERS = (ANN, BOB, CAT, RECORDER)


@pytest.fixture
def of() -> Hospital:
    made = hospital()
    for name in (ANN, BOB, CAT, DAN):
        made.enrol(name)
    return made


def stated(of: Hospital, *signers: str, conversation: ConversationId = HERE) -> bytes:
    body = Emergency(
        conversation=conversation, user=UserName("dan"), until_ms=now_ms() + HOUR_MS
    ).encode()
    first, *others = (of.people[name].signatory(Purpose.DEVICE) for name in signers)
    statement = sign_statement(
        StatementType.EMERGENCY,
        body,
        organisation=of.id,
        issued_ms=now_ms(),
        lifetime_ms=HOUR_MS,
        signatory=first,
    )
    for one in others:
        statement = countersign_statement(statement, trust=of.trust, at_ms=now_ms(), signatory=one)
    return statement


def with_guest(of: Hospital, statement: bytes) -> WardlineContext:
    return replace(context(of, "ann"), guests=(guest_of(statement),))


def answered(
    of: Hospital,
    after: WardlineContext,
    *,
    before: WardlineContext | None = None,
    added: tuple[DeviceId, ...] = (DAN,),
    policy: Policy | None = None,
) -> Code | None:
    return may_change_guests(
        before or context(of, "ann"),
        CommitData(added=added, context=after),
        conversation=HERE,
        readers=READERS,
        trust=of.trust,
        policy=policy or Policy(),
        at_ms=now_ms(),
    )


def test_what_two_members_signed_passes(of: Hospital) -> None:
    assert answered(of, with_guest(of, stated(of, BOB, CAT))) is None


REFUSED: dict[str, Callable[[Hospital], WardlineContext]] = {
    "one signature": lambda of: with_guest(of, stated(of, BOB)),
    "an outsider's": lambda of: with_guest(of, stated(of, BOB, DAN)),
    "for elsewhere": lambda of: with_guest(
        of, stated(of, BOB, CAT, conversation=ConversationId(bytes(32)))
    ),
    "forged": lambda of: with_guest(of, flipped(stated(of, BOB, CAT))),
}


@pytest.mark.parametrize("word", REFUSED)
def test_what_no_member_could_accept_is_refused(of: Hospital, word: str) -> None:
    assert answered(of, REFUSED[word](of)) is Code.INVALID


def test_a_statement_that_lets_nobody_in_is_refused(of: Hospital) -> None:
    assert answered(of, with_guest(of, stated(of, BOB, CAT)), added=()) is Code.INVALID


def test_a_guest_is_not_forgotten_before_the_time_is_over(of: Hospital) -> None:
    before = with_guest(of, stated(of, BOB, CAT))
    assert answered(of, context(of, "ann"), before=before, added=()) is Code.INVALID


def test_the_policy_says_who_may_vouch(of: Hospital) -> None:
    nobody = Policy(version=1, rights={Action.VOUCH: frozenset({Role.RECORDER})})
    after = with_guest(of, stated(of, BOB, CAT))
    assert answered(of, after, policy=nobody) is Code.FORBIDDEN


def test_no_conversation_begins_with_a_guest(of: Hospital) -> None:
    made = with_guest(of, stated(of, BOB, CAT))
    code = access.may_create(ANN, made, added=(RECORDER,), recorders=(RECORDER,))
    assert code is Code.INVALID
    without = context(of, "ann")
    assert access.may_create(ANN, without, added=(RECORDER,), recorders=(RECORDER,)) is None
