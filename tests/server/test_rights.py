"""Each right of a policy, by each role, allowed and denied: everything is tried at a running relay.

``NEEDS`` is the expectation: what must be allowed for each thing that somebody may try. Every role
tries every one of them while nothing is denied, and again with each single right taken from it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import httpx
import pytest

from crypto.names import Role
from crypto.statement import Purpose, StatementType, countersign_statement
from protocol import frames
from protocol.authenticated_data import AuthenticatedData, CommitData, Priority
from protocol.commands import ResetAccount, SetPolicy
from protocol.emergency import Emergency, guest_of
from protocol.errors import Code
from protocol.frames import EntryKind
from protocol.group_context import ConversationType
from protocol.identifiers import ConversationId, DeviceId, UserName, conversation_log
from protocol.policy import ALLOWED, Action, Policy
from server.attachments import PATH
from tests.server import harness
from tests.server.harness import RECORDER, Client, Site
from tests.server.test_attachments import SMALL, bearer, upload
from tests.server.test_control import administrator, command, conversations_in, signed
from tests.waiting import WITHIN_S

PEOPLE = (Role.CLINICIAN, Role.AFFILIATE, Role.ADMINISTRATOR, Role.OFFICER)
HOUR_MS = 3_600_000
WELCOME = b"\x00\x01\x00\x03welcome"
GUEST = DeviceId("guest/phone")


@dataclass(kw_only=True)
class Place:
    """A relay with one device of the role that is tried, and who else there must be.

    Attributes:
        one: Of the role.
        two: Of the role, another person's.
        other: Of another role, from which nothing is taken.
        group: The conversation of all of them.
        page: A page of all of them.
        groups: Conversations of the same people, one for each vouching.
        blob: A file that ``other`` has sent to the group.
    """

    site: Site
    web: httpx.AsyncClient
    one: Client
    two: Client
    other: Client
    recorder: Client
    chief: Client
    group: ConversationId
    page: ConversationId
    groups: list[ConversationId]
    blob: str

    async def rule(self, rights: Mapping[Action, frozenset[Role]]) -> None:
        """Set the policy, as an administrator does."""
        version = self.site.relay.organisations[self.site.hospital.id].policy.version + 1
        body = SetPolicy(policy=Policy(version=version, rights=rights)).encode()
        assert isinstance(await command(self.site, self.chief, body), frames.Done)


async def begun(
    by: Client,
    recorder: Client,
    *others: Client,
    kind: ConversationType = ConversationType.GROUP,
    number: int,
) -> ConversationId:
    """Return a conversation with its receipt."""
    conversation = ConversationId(number.to_bytes(32, "big"))
    added = [one.person.name for one in (*others, recorder)]
    sequence = await harness.commit(by, conversation, epoch=0, added=added, conversation_type=kind)
    await harness.confirm(recorder, conversation, sequence=sequence, epoch=1)
    for client in (by, *others):
        await client.expect(
            frames.Deliver,
            lambda e: e.log == conversation_log(conversation) and e.kind == EntryKind.RECEIPT,
        )
    return conversation


async def placed(site: Site, web: httpx.AsyncClient, role: Role) -> Place:
    """Return everybody, while nothing is denied."""
    of = site.hospital
    another = Role.CLINICIAN if role is not Role.CLINICIAN else Role.OFFICER
    chief = await administrator(site)
    one = await site.open(of.enrol("one/phone", role))
    two = await site.open(of.enrol("two/phone", role))
    other = await site.open(of.enrol("other/phone", another))
    for name in (GUEST, "stranger/phone"):
        await site.open(of.enrol(name, another))
    site.connection(one).strong_until_s = float("inf")
    recorder = await site.open(of.people[RECORDER])
    group = await begun(other, recorder, one, two, number=1)
    return Place(
        site=site,
        web=web,
        one=one,
        two=two,
        other=other,
        recorder=recorder,
        chief=chief,
        group=group,
        page=await begun(other, recorder, one, kind=ConversationType.PAGE, number=2),
        groups=[
            await begun(other, recorder, one, two, number=3 + n) for n in range(len(Action) + 1)
        ],
        blob=await upload(web, other, group, SMALL),
    )


def is_verdict_on(number: int) -> Callable[[frames.Frame], bool]:
    """Tell the answer to a message by its id."""

    def holds(frame: frames.Frame) -> bool:
        if isinstance(frame, frames.Accepted):
            return number in frame.message_ids
        return isinstance(frame, frames.RefusedMessage) and frame.message_id == number

    return holds


async def appended(client: Client, frame: frames.Append | frames.AppendCommit) -> Code | None:
    """Send a message; return why it is not in its log, ``None`` where it is."""
    await client.send(frame)
    answer = await client.expect(frames.Frame, is_verdict_on(client.person.counter))
    return Code(answer.code) if isinstance(answer, frames.RefusedMessage) else None


async def says(client: Client, conversation: ConversationId) -> bool:
    code = await appended(client, harness.message(client, conversation, epoch=1))
    assert code in (None, Code.FORBIDDEN)
    return code is None


async def say(place: Place) -> bool:
    return await says(place.one, place.group)


async def say_in_page(place: Place) -> bool:
    return await says(place.one, place.page)


async def change_members(place: Place) -> bool:
    """Commit something that is wrong otherwise, so that nothing comes of it where it may be."""
    nobody = [DeviceId("nobody/phone")]
    _, body = harness.commit_message(place.one, place.group, epoch=1, added=nobody, removed=[])
    code = await appended(place.one, frames.AppendCommit(message=body, welcome=WELCOME))
    assert code in (Code.INVALID, Code.FORBIDDEN)
    return code is Code.INVALID


async def be_added(place: Place) -> bool:
    return await _added(place, ConversationType.GROUP)


async def be_added_to_a_page(place: Place) -> bool:
    return await _added(place, ConversationType.PAGE)


async def _added(place: Place, kind: ConversationType) -> bool:
    conversation = place.other.person.counter.to_bytes(32, "little")
    added = [place.one.person.name, RECORDER]
    _, body = harness.commit_message(
        place.other, conversation, epoch=0, added=added, removed=[], conversation_type=kind
    )
    code = await appended(place.other, frames.AppendCommit(message=body, welcome=WELCOME))
    assert code in (None, Code.FORBIDDEN)
    return code is None


async def begin_a_page(place: Place) -> bool:
    conversation = (place.one.person.counter << 32).to_bytes(32, "little")
    added = [place.other.person.name, RECORDER]
    _, body = harness.commit_message(
        place.one,
        conversation,
        epoch=0,
        added=added,
        removed=[],
        conversation_type=ConversationType.PAGE,
    )
    return await appended(place.one, frames.AppendCommit(message=body, welcome=WELCOME)) is None


async def _given(place: Place, conversation: ConversationId) -> frames.Deliver | None:
    """Return what ``one`` is given of a message; the archive gets all of it in any case."""
    assert await says(place.other, conversation)
    log = conversation_log(conversation)

    def is_said(entry: frames.Deliver) -> bool:
        return entry.log == log and entry.kind in (EntryKind.MESSAGE, EntryKind.WITHHELD)

    whole = await place.recorder.expect(frames.Deliver, is_said)
    while whole.sequence != place.site.relay.store.head(place.site.key(log)).seq:  # type: ignore[union-attr]
        whole = await place.recorder.expect(frames.Deliver, is_said)
    assert whole.kind == EntryKind.MESSAGE
    # What is to come has come by the answer to what is asked afterwards.
    await place.one.answer(lambda ref: frames.Lookup(ref=ref, users=("one",)))
    mine = [entry for entry in conversations_in(place.one) if entry.sequence == whole.sequence]
    mine = [entry for entry in mine if entry.log == log]
    place.one.early.clear()
    if not mine:
        return None
    assert (mine[0].body == whole.body) is (mine[0].kind == EntryKind.MESSAGE)
    assert mine[0].body in (whole.body, b"")
    return mine[0]


async def be_given_that_something_was_said(place: Place) -> bool:
    return await _given(place, place.group) is not None


async def have_what_was_said(place: Place) -> bool:
    entry = await _given(place, place.group)
    return entry is not None and entry.kind == EntryKind.MESSAGE


async def have_what_a_page_says(place: Place) -> bool:
    entry = await _given(place, place.page)
    return entry is not None and entry.kind == EntryKind.MESSAGE


async def begin_to_send_a_file(place: Place) -> bool:
    headers = {
        "Upload-Length": str(len(SMALL)),
        "Wardline-Conversation": place.group.hex(),
    }
    answer = await place.web.post(PATH, headers=bearer(place.one, **headers))
    assert answer.status_code in (201, 403)
    return answer.status_code == 201


async def fetch_a_file(place: Place) -> bool:
    answer = await place.web.get(place.blob, headers=bearer(place.one))
    assert answer.status_code in (200, 403)
    return answer.status_code == 200


async def _looks_up(place: Place, *users: str) -> bool:
    answer = await place.one.answer(lambda ref: frames.Lookup(ref=ref, users=users))
    if isinstance(answer, frames.Refused):
        assert answer.code == Code.FORBIDDEN
        return False
    assert isinstance(answer, frames.Directory)
    assert {one.device.partition("/")[0] for one in answer.devices} == set(users)
    return True


async def look_a_stranger_up(place: Place) -> bool:
    return await _looks_up(place, "stranger")


async def know_whom_it_meets(place: Place) -> bool:
    return await _looks_up(place, "archive", "one", "other", "two")


async def ask_whether_somebody_is_there(place: Place) -> bool:
    answer = await place.one.answer(lambda ref: frames.GetReach(ref=ref, users=("other",)))
    return isinstance(answer, frames.Reach)


async def give_key_packages(place: Place) -> bool:
    answer = await place.one.answer(
        lambda ref: frames.PublishKeyPackages(
            ref=ref, packages=(b"package",), last_resort=b"", replace=True
        )
    )
    return isinstance(answer, frames.Done)


async def command_something(place: Place) -> bool:
    body = ResetAccount(user=UserName("nobody")).encode()
    by = place.one.person.signatory(Purpose.ADMINISTRATOR)
    statement = signed(place.site, StatementType.COMMAND, body, by)
    answer = await place.one.answer(lambda ref: frames.Command(ref=ref, statement=statement))
    return not (isinstance(answer, frames.Refused) and answer.code == Code.FORBIDDEN)


async def vouch(place: Place) -> bool:
    """Let a guest in on the word of two of the role; the Commit is somebody else's."""
    conversation, of, now_ms = place.groups.pop(), place.site.hospital, place.site.relay.now_ms()
    body = Emergency(
        conversation=conversation, user=UserName("guest"), until_ms=now_ms + HOUR_MS
    ).encode()
    first, second = (one.person.signatory(Purpose.DEVICE) for one in (place.one, place.two))
    statement = signed(place.site, StatementType.EMERGENCY, body, first)
    statement = countersign_statement(statement, trust=of.trust, at_ms=now_ms, signatory=second)
    context = replace(harness.context(of, "other"), guests=(guest_of(statement),))
    data = AuthenticatedData(
        message_id=place.other.person.next_id(),
        commit=CommitData(added=(GUEST,), removed=(), context=context),
    )
    message = harness.private_message(conversation, data, epoch=1, kind=3)
    code = await appended(place.other, frames.AppendCommit(message=message, welcome=WELCOME))
    # No policy gives it to another role: such a statement is none.
    clinician = Role.CLINICIAN in place.site.connection(place.one).device.identity.roles
    assert code in ((None, Code.FORBIDDEN) if clinician else (Code.INVALID,))
    return code is None


NEEDS: Mapping[Callable[[Place], Awaitable[bool]], frozenset[Action]] = MappingProxyType(
    {
        say: frozenset({Action.SEND}),
        change_members: frozenset({Action.SEND}),
        be_added: frozenset({Action.RECEIVE}),
        be_given_that_something_was_said: frozenset({Action.RECEIVE}),
        have_what_was_said: frozenset({Action.RECEIVE, Action.VIEW}),
        begin_to_send_a_file: frozenset({Action.ATTACH, Action.SEND}),
        fetch_a_file: frozenset({Action.ATTACH, Action.RECEIVE, Action.VIEW}),
        look_a_stranger_up: frozenset({Action.LOOK_UP}),
        ask_whether_somebody_is_there: frozenset({Action.LOOK_UP}),
        command_something: frozenset({Action.COMMAND}),
        vouch: frozenset({Action.VOUCH}),
        # What no policy takes from anybody: pages, and what a device needs to follow.
        say_in_page: frozenset(),
        begin_a_page: frozenset(),
        be_added_to_a_page: frozenset(),
        have_what_a_page_says: frozenset(),
        know_whom_it_meets: frozenset(),
        give_key_packages: frozenset(),
    }
)
"""What must be allowed for each thing; ``SAVE`` is for devices, no relay sees it."""


def denials(role: Role) -> list[Action | None]:
    """Return each single right that a policy can take from a role, and first none at all."""
    kept = {Action.COMMAND} if role is Role.ADMINISTRATOR else set()
    return [None, *(one for one in Action if role in ALLOWED[one] and one not in kept)]


def test_every_right_but_the_devices_own_is_needed_for_something() -> None:
    assert frozenset().union(*NEEDS.values()) == set(Action) - {Action.SAVE}


@pytest.mark.parametrize("role", PEOPLE)
async def test_each_role_does_what_its_rights_allow_and_nothing_else(
    tmp_path: Path, role: Role
) -> None:
    async with (
        harness.running(tmp_path, harness.hospital()) as site,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{site.port}") as web,
    ):
        place = await placed(site, web, role)
        for denied in denials(role):
            rights = {} if denied is None else {denied: ALLOWED[denied] - {role}}
            await place.rule(rights)
            may = {action for action in Action if role in ALLOWED[action] and action != denied}
            for tried, needed in NEEDS.items():
                async with asyncio.timeout(WITHIN_S):
                    assert await tried(place) is (needed <= may), (denied, tried.__name__)


async def test_who_may_not_view_gets_what_changes_keys_and_of_messages_that_there_was_one(
    tmp_path: Path,
) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        chief = await administrator(site)
        (ann, bob, recorder), conversation = await site.meeting("ann/phone", "bob/phone")

        async def rule(version: int, *roles: Role) -> None:
            rights = {Action.VIEW: frozenset({Role.RECORDER, *roles})}
            body = SetPolicy(policy=Policy(version=version, rights=rights)).encode()
            assert isinstance(await command(site, chief, body), frames.Done)

        async def got(client: Client, count: int) -> list[EntryKind]:
            found = [await client.expect(frames.Deliver, in_it) for _ in range(count)]
            assert [not one.body for one in found] == [
                one.kind == EntryKind.WITHHELD for one in found
            ]
            for one in found:
                quiet = (frames.Attention.SILENT, 0)
                assert one.kind != EntryKind.WITHHELD or (one.attention, one.until_ms) == quiet
            return [EntryKind(one.kind) for one in found]

        def in_it(entry: frames.Deliver) -> bool:
            return entry.log == conversation_log(conversation)

        await rule(1, Role.ADMINISTRATOR)
        await ann.send(harness.message(ann, conversation, epoch=1, priority=Priority.STAT))
        sequence = await harness.commit(ann, conversation, epoch=1, removed=[])
        await harness.confirm(recorder, conversation, sequence=sequence, epoch=2)
        await ann.send(harness.message(ann, conversation, epoch=2))
        kinds = [EntryKind.WITHHELD, EntryKind.COMMIT, EntryKind.RECEIPT, EntryKind.WITHHELD]
        assert await got(bob, 4) == kinds
        # Whoever reads from the cursor is given no more than whoever was there.
        await bob.socket.close()
        bob = await site.open(bob.person)
        assert await got(bob, 5) == [EntryKind.RECEIPT, *kinds]
        # Back again, on the same connection: whole from then on.
        await rule(2, Role.CLINICIAN)
        await ann.send(harness.message(ann, conversation, epoch=2))
        assert await got(bob, 1) == [EntryKind.MESSAGE]
        await bob.socket.close()
        bob = await site.open(bob.person)
        again = await got(bob, 6)
        assert EntryKind.WITHHELD not in again


async def test_a_locked_device_does_not_ring_for_what_its_person_may_not_read(
    tmp_path: Path,
) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        chief = await administrator(site)
        (ann, bob, _), group = await site.meeting("ann/phone", "bob/phone")
        await bob.socket.close()
        locked = await site.client(bob.person)
        await locked.greet()
        assert isinstance(await locked.prove(unlocked=False), frames.Locked)
        only = frozenset({Role.RECORDER})
        rules: list[dict[Action, frozenset[Role]]] = [
            {Action.VIEW: only},
            {Action.RECEIVE: only},
            {},
        ]
        priorities = (Priority.URGENT, Priority.URGENT, Priority.STAT)
        for version, (rights, priority) in enumerate(zip(rules, priorities, strict=True), 1):
            body = SetPolicy(policy=Policy(version=version, rights=rights)).encode()
            assert isinstance(await command(site, chief, body), frames.Done)
            await says_at(ann, group, priority)
        # The first that comes is of the day on which they may read again.
        ring = await locked.expect(frames.Ring)
        assert ring.priority == Priority.STAT


async def says_at(client: Client, conversation: ConversationId, priority: Priority) -> None:
    await client.send(harness.message(client, conversation, epoch=1, priority=priority))
    await client.expect(frames.Accepted, is_verdict_on(client.person.counter))


async def test_no_commit_makes_a_page_of_a_group_that_a_policy_governs(tmp_path: Path) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        (ann, _, _), conversation = await site.meeting("ann/phone", "bob/phone")
        context = harness.context(site.hospital, "ann", ConversationType.PAGE)
        data = AuthenticatedData(
            message_id=ann.person.next_id(),
            commit=CommitData(added=(), removed=(), context=context),
        )
        message = harness.private_message(conversation, data, epoch=1, kind=3)
        frame = frames.AppendCommit(message=message, welcome=b"")
        assert await appended(ann, frame) is Code.INVALID


async def test_a_recorder_lets_a_person_back_in_whom_nobody_else_may_bring(tmp_path: Path) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        chief = await administrator(site)
        (ann, recorder), conversation = await site.meeting("ann/phone")
        bob = await site.open(site.hospital.enrol("bob/phone"))
        rights = {Action.RECEIVE: frozenset({Role.RECORDER, Role.ADMINISTRATOR})}
        body = SetPolicy(policy=Policy(version=1, rights=rights)).encode()
        assert isinstance(await command(site, chief, body), frames.Done)
        for client, expected in ((ann, Code.FORBIDDEN), (recorder, None)):
            _, message = harness.commit_message(
                client, conversation, epoch=1, added=[bob.person.name], removed=[]
            )
            frame = frames.AppendCommit(message=message, welcome=WELCOME)
            assert await appended(client, frame) is expected
