"""Every committer, every change, every reason that can be cited: one row each, and its answer."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from client.rules import Demand, Fate, Proposed, check_commit, check_joined, check_proposals
from crypto.errors import InvalidError
from crypto.mls.proposal import ReInit, Remove
from crypto.mls.tree_math import LeafIndex
from crypto.names import Role
from crypto.statement_types import StatementType
from crypto.trust import DeviceIdentity, Revocations
from protocol.authenticated_data import CommitData
from protocol.commands import ChangeMembers, RemoveUser
from protocol.group_context import ConversationType, WardlineContext
from protocol.identifiers import ConversationId, DeviceId, OrganisationId, UserName
from protocol.requests import DeviceRequest, RequestKind

NOW_MS = 1_700_000_000_000
HOME = OrganisationId(bytes(32))
HERE = ConversationId(b"h" * 32)
THERE = ConversationId(b"t" * 32)
RECORDER = DeviceId("archive/recorder")
CONTEXT = WardlineContext(
    organisation=HOME,
    conversation_type=ConversationType.GROUP,
    owners=(UserName("ann"),),
    recorder=RECORDER,
    retention_class="clinical",
)


def device(name: str, *, role: Role = Role.CLINICIAN, expired: bool = False) -> DeviceIdentity:
    user, _, own = name.partition("/")
    return DeviceIdentity(
        organisation=HOME,
        user=user,
        device=own,
        roles=frozenset({role}),
        serial=1,
        fingerprint=secrets.token_bytes(32),
        signature_key=bytes(32),
        connection_key=bytes(32),
        not_before_ms=0,
        not_after_ms=NOW_MS // 2 if expired else 2 * NOW_MS,
        ends_ms=None,
        origin=bytes(32),
    )


PEOPLE = {
    "ann/phone": device("ann/phone"),
    "bob/phone": device("bob/phone"),
    "bob/laptop": device("bob/laptop"),
    "cat/phone": device("cat/phone"),
    RECORDER: device(RECORDER, role=Role.RECORDER),
}
OUTSIDERS = {"cat/laptop": device("cat/laptop"), "dan/phone": device("dan/phone")}
EVERYONE = {**PEOPLE, **OUTSIDERS}


def proposed(
    committer: str,
    *,
    add: tuple[str, ...] = (),
    remove: tuple[str, ...] = (),
    demand: Demand | None = None,
    revoked: str | None = None,
    context: WardlineContext = CONTEXT,
    changed: WardlineContext | None = None,
) -> Proposed:
    revocations = Revocations()
    if revoked:
        revocations = revocations.with_device(revoked, at_ms=NOW_MS - 1)
    return Proposed(
        conversation=HERE,
        committer=PEOPLE[committer],
        members={DeviceId(name): one for name, one in PEOPLE.items()},
        added=tuple(EVERYONE[name] for name in add),
        removed=tuple(PEOPLE[name] for name in remove),
        context=context,
        changed=changed,
        data=CommitData(
            added=tuple(sorted(map(DeviceId, add))),
            removed=tuple(sorted(map(DeviceId, remove))),
            statement_hash=demand.hash if demand else None,
            context=changed,
        ),
        demand=demand,
        revocations=revocations,
        at_ms=NOW_MS,
    )


def demand(kind: StatementType, body: bytes, by: str | None = None) -> Demand:
    asker = DeviceId(by) if by else None
    return Demand(hash=secrets.token_bytes(32), kind=kind, by=asker, body=body, at_ms=NOW_MS)


def command(*, added: str = "", removed: str = "", conversation: ConversationId = HERE) -> Demand:
    body = ChangeMembers(
        conversation=conversation,
        added=(UserName(added),) if added else (),
        removed=(UserName(removed),) if removed else (),
    )
    return demand(StatementType.COMMAND, body.encode())


def asks(kind: RequestKind, by: str, conversation: ConversationId = HERE) -> Demand:
    body = DeviceRequest(kind=kind, conversation=conversation).encode()
    return demand(StatementType.DEVICE_REQUEST, body, by)


@dataclass(frozen=True)
class Case:
    committer: str
    target: str
    fate: Fate
    reason: str


REASONS: dict[str, Callable[[str], Demand | None]] = {
    "none": lambda target: None,
    "command": lambda target: command(
        added="" if target in PEOPLE else _user(target), removed=_user(target)
    ),
    "command elsewhere": lambda target: command(
        added=_user(target), removed=_user(target), conversation=THERE
    ),
    "another command": lambda target: demand(
        StatementType.COMMAND, RemoveUser(user=UserName(_user(target))).encode()
    ),
    "no command": lambda target: demand(StatementType.COMMAND, b"\xff"),
    "asks back in": lambda target: asks(RequestKind.RE_ADD, target),
    "asks out": lambda target: asks(RequestKind.LEAVE, target),
    "asks out elsewhere": lambda target: asks(RequestKind.LEAVE, target, THERE),
    "another asks back in": lambda target: asks(RequestKind.RE_ADD, "eve/phone"),
    "another asks out": lambda target: asks(RequestKind.LEAVE, "eve/phone"),
    "no request": lambda target: demand(StatementType.DEVICE_REQUEST, b"\xff", target),
    "revoked": lambda target: None,
}


def _user(name: str) -> str:
    return name.partition("/")[0]


def is_lawful(case: Case) -> bool:
    """The table of client.rules, said once more in other words."""
    user, committer = _user(case.target), _user(case.committer)
    if case.fate is Fate.ADDED:
        in_already = user in {_user(name) for name in PEOPLE}
        return committer == "ann" or in_already or case.reason == "command"
    if case.target == RECORDER and case.fate is Fate.REMOVED:
        return False
    if case.target == case.committer and case.fate is Fate.RENEWED:
        return False
    if committer in ("ann", user):
        return True
    if case.fate is Fate.REMOVED:
        return case.reason in ("command", "asks out", "revoked")
    return case.committer == RECORDER or case.reason == "asks back in"


CASES = [
    Case(committer, target, fate, reason)
    for committer, target, fate, reason in itertools.product(PEOPLE, EVERYONE, Fate, REASONS)
    if (target in OUTSIDERS) is (fate is Fate.ADDED)
]


@pytest.mark.parametrize("fate", Fate)
def test_only_those_change_the_members_who_may(fate: Fate) -> None:
    wrong = []
    for case in CASES:
        if case.fate is not fate:
            continue
        commit = proposed(
            case.committer,
            add=(case.target,) if fate is not Fate.REMOVED else (),
            remove=(case.target,) if fate is not Fate.ADDED else (),
            demand=REASONS[case.reason](case.target),
            revoked=case.target if case.reason == "revoked" else None,
        )
        try:
            check_commit(commit)
        except InvalidError:
            lawful = False
        else:
            lawful = True
        if lawful is not is_lawful(case):
            wrong.append(case)
    assert not wrong
    assert {is_lawful(case) for case in CASES if case.fate is fate} == {True, False}


def test_a_reason_for_one_change_covers_no_other() -> None:
    check_commit(proposed("cat/phone", add=("dan/phone",), demand=command(added="dan")))
    with pytest.raises(InvalidError):
        check_commit(
            proposed(
                "cat/phone",
                add=("dan/phone",),
                remove=("bob/phone",),
                demand=command(added="dan"),
            )
        )


def test_everybody_may_bring_fresh_keys() -> None:
    for name in PEOPLE:
        check_commit(proposed(name))


def test_every_member_removes_who_is_expired() -> None:
    commit = proposed("cat/phone", remove=("bob/phone",))
    old = replace(PEOPLE["bob/phone"], not_after_ms=NOW_MS // 2)
    check_commit(replace(commit, removed=(old,)))


@pytest.mark.parametrize(
    "says",
    [
        CommitData(),
        CommitData(added=(DeviceId("dan/phone"), DeviceId("eve/phone"))),
        CommitData(added=(DeviceId("dan/phone"),), removed=(DeviceId("bob/phone"),)),
        CommitData(added=(DeviceId("dan/phone"),), statement_hash=bytes(32)),
        CommitData(added=(DeviceId("dan/phone"),), context=CONTEXT),
    ],
)
def test_what_a_commit_says_is_what_it_does(says: CommitData) -> None:
    commit = proposed("ann/phone", add=("dan/phone",))
    check_commit(commit)
    with pytest.raises(InvalidError):
        check_commit(replace(commit, data=says))


def test_a_device_has_one_leaf() -> None:
    with pytest.raises(InvalidError):
        check_commit(proposed("ann/phone", add=("bob/phone",)))
    twice = proposed("ann/phone", add=("dan/phone",))
    with pytest.raises(InvalidError):
        check_commit(replace(twice, added=(*twice.added, *twice.added)))


@pytest.mark.parametrize("committer", PEOPLE)
def test_the_recorder_stays(committer: str) -> None:
    with pytest.raises(InvalidError):
        check_commit(proposed(committer, remove=(RECORDER,), demand=command(removed="archive")))


def test_only_what_is_certified_as_one_comes_back_as_the_recorder() -> None:
    commit = proposed("ann/phone", add=(RECORDER,), remove=(RECORDER,))
    check_commit(commit)
    with pytest.raises(InvalidError):
        check_commit(replace(commit, added=(device(RECORDER),)))


@pytest.mark.parametrize(
    "changed",
    [
        replace(CONTEXT, recorder=DeviceId("eve/recorder")),
        replace(CONTEXT, organisation=OrganisationId(b"o" * 32)),
        replace(CONTEXT, conversation_type=ConversationType.ANNOUNCEMENT),
    ],
)
def test_what_a_conversation_is_never_changes(changed: WardlineContext) -> None:
    with pytest.raises(InvalidError):
        check_commit(proposed("ann/phone", changed=changed))


def test_owners_name_owners_and_nobody_else_does() -> None:
    changed = replace(CONTEXT, owners=(UserName("ann"), UserName("bob")))
    check_commit(proposed("ann/phone", changed=changed))
    for name in PEOPLE.keys() - {"ann/phone"}:
        with pytest.raises(InvalidError):
            check_commit(proposed(name, changed=changed))


def test_a_direct_conversation_stays_between_two() -> None:
    direct = replace(CONTEXT, conversation_type=ConversationType.DIRECT)
    two = {DeviceId(name): one for name, one in PEOPLE.items() if not name.startswith("cat")}
    commit = replace(proposed("ann/phone", context=direct), members=two)
    check_commit(commit)
    third = replace(proposed("ann/phone", add=("dan/phone",), context=direct), members=two)
    with pytest.raises(InvalidError):
        check_commit(third)
    check_joined(direct, two, me=DeviceId("bob/phone"))
    with pytest.raises(InvalidError):
        check_joined(direct, {DeviceId(n): o for n, o in PEOPLE.items()}, me=DeviceId("bob/phone"))


def test_nobody_comes_into_a_conversation_without_the_archive() -> None:
    members = {DeviceId(name): one for name, one in PEOPLE.items()}
    me = DeviceId("bob/phone")
    check_joined(CONTEXT, members, me=me)
    without = {name: one for name, one in members.items() if name != RECORDER}
    false = {**members, RECORDER: device(RECORDER)}
    foreign = replace(CONTEXT, organisation=OrganisationId(b"o" * 32))
    for context, found, who in (
        (CONTEXT, without, me),
        (CONTEXT, false, me),
        (foreign, members, me),
        (CONTEXT, members, DeviceId("dan/phone")),
    ):
        with pytest.raises(InvalidError):
            check_joined(context, found, me=who)


def test_a_commit_holds_nothing_that_no_program_of_ours_makes() -> None:
    check_proposals([Remove(LeafIndex(1))])
    with pytest.raises(InvalidError):
        check_proposals([ReInit(group_id=b"", version=1, cipher_suite=3, extensions=())])
