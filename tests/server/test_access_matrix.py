"""Who may do what: every frame, route and command by every role and by no role.

The tables are the expectation, taken from the architecture and ``docs/protocol.md``; they are
compared with ``server.access`` and with what a running relay answers. A frame, route, command or
role that has no row fails.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import get_args

import httpx
import pytest
from starlette.routing import Route

from crypto.names import Role
from crypto.statement import Purpose, StatementType
from protocol import commands, frames
from protocol.commands import (
    ChangeMembers,
    RemoveUser,
    ResetAccount,
    SetDelegate,
    SetHolders,
    SetLogPolicy,
    SetPerson,
    SetPolicy,
)
from protocol.errors import Code
from protocol.frames import Frame, Sender
from protocol.identifiers import ConversationId, RoleName, UserName
from protocol.oncall.commands import ROLE_COMMANDS, RoleCommand
from protocol.policy import ALLOWED, Action, Policy
from protocol.session import TABLE, State
from server import access, control, http
from tests.protocol.command_examples import EXAMPLES
from tests.protocol.strategies import example_frame
from tests.server import harness
from tests.server.harness import Client, Site
from tests.server.test_control import signed

MEMBERS = frozenset(
    {Role.CLINICIAN, Role.AFFILIATE, Role.ADMINISTRATOR, Role.OFFICER, Role.RECORDER}
)
DEVICES = MEMBERS | {Role.WITNESS}
COMMANDERS = frozenset({Role.ADMINISTRATOR, Role.RECORDER})
NOBODY: frozenset[Role] = frozenset()

OPEN_FRAMES: dict[type[Frame], frozenset[Role]] = {
    frames.Append: MEMBERS,
    frames.AppendCommit: MEMBERS,
    frames.Post: DEVICES,
    frames.Acknowledge: DEVICES,
    frames.Authenticate: DEVICES,
    frames.StoreShare: DEVICES,
    frames.GetShare: DEVICES,
    frames.Lookup: MEMBERS,
    frames.LookupCertificates: MEMBERS,
    frames.GetReach: MEMBERS,
    frames.TestAlert: DEVICES,
    frames.AlertHeard: DEVICES,
    frames.PublishKeyPackages: MEMBERS,
    frames.ClaimKeyPackage: MEMBERS,
    frames.Command: COMMANDERS,
    frames.Witness: frozenset({Role.RECORDER}),
    frames.GetWitnessKey: frozenset({Role.RECORDER}),
    frames.Standing: MEMBERS,
}
"""Who may use a frame on an open connection. ``Post`` is decided by what is posted."""

OTHER_FRAMES: dict[type[Frame], State] = {
    frames.Hello: State.START,
    frames.Prove: State.CHALLENGED,
    frames.Unlock: State.LOCKED,
    frames.Enrol: State.ENROLLING,
    frames.ConfirmEnrolment: State.ENROLLING,
    frames.Adopt: State.RECONCILING,
    frames.Replay: State.RECONCILING,
    frames.Resume: State.RECONCILING,
}
"""Frames for which no role is asked, or for which the state is the right, and the one state."""

WITHOUT_PROOF = {frames.Hello, frames.Prove}
"""What a stranger may send."""

ROUTES: dict[tuple[str, str], frozenset[Role] | None] = {
    ("GET", "/healthz"): None,
    ("HEAD", "/healthz"): None,
    ("GET", "/readyz"): None,
    ("HEAD", "/readyz"): None,
    ("GET", "/metrics"): None,
    ("HEAD", "/metrics"): None,
    ("GET", "/v1/invitations/{organisation}/{key}"): NOBODY,
    ("HEAD", "/v1/invitations/{organisation}/{key}"): NOBODY,
    ("GET", "/v1/calendars/{organisation}/{secret}"): NOBODY,
    ("HEAD", "/v1/calendars/{organisation}/{secret}"): NOBODY,
    ("POST", "/v1/attachments"): MEMBERS,
    ("PATCH", "/v1/attachments/{blob}"): MEMBERS,
    ("HEAD", "/v1/attachments/{blob}"): MEMBERS,
    ("GET", "/v1/attachments/{blob}"): MEMBERS,
    ("DELETE", "/v1/attachments/{blob}"): MEMBERS,
}
"""Who may use a route; ``None`` stands for everybody, also without a session, and nobody for one
that a session does not open: whoever lacks its own proof is told that there is no such thing."""

STATEMENTS: dict[StatementType, frozenset[Role]] = {
    **dict.fromkeys(StatementType, NOBODY),
    StatementType.INVITATION: COMMANDERS,
    StatementType.COMMAND: COMMANDERS,
    StatementType.SUSPENSION: COMMANDERS,
    StatementType.WIPE_ORDER: COMMANDERS,
    StatementType.REVOCATION_LIST: frozenset({Role.RECORDER}),
}
"""Who may hand in a statement for the control log: what stands here changes something."""

TOLD = {StatementType.ARCHIVED, StatementType.CHECKPOINT}
"""What a recorder states to a device."""

STATED = {
    StatementType.OFFICER_KEYS,
    StatementType.COSIGNATURE,
    StatementType.PAGE_ANSWER,
    StatementType.DEVICE_REQUEST,
}
"""What any device may state to a recorder; to a device the recorder alone says what is archived."""

_USERS = (UserName("ann"),)
COMMANDS: dict[type[commands.Command], commands.Command] = {
    RemoveUser: RemoveUser(user=UserName("nobody")),
    ResetAccount: ResetAccount(user=UserName("nobody")),
    SetPolicy: SetPolicy(policy=Policy(version=1)),
    SetHolders: SetHolders(role=RoleName("icu"), users=_USERS),
    ChangeMembers: ChangeMembers(conversation=ConversationId(bytes(32)), added=_USERS, removed=()),
    SetLogPolicy: next(body for body in EXAMPLES if isinstance(body, SetLogPolicy)),
    SetPerson: SetPerson(user=UserName("ann"), display_name="Ann", ward=""),
    SetDelegate: SetDelegate(ward="Ward 7", role=RoleName("icu")),
    **{type(one): one for one in EXAMPLES if isinstance(one, RoleCommand)},
}
"""One of each command. An administrator alone signs them, but for the authority's own."""

VALID_EFFECT = {ResetAccount, SetDelegate, SetPolicy, SetHolders, SetPerson, *ROLE_COMMANDS}
"""Those of the examples that find what they change; the others are refused as naming nothing."""


def test_every_frame_of_a_client_has_a_row() -> None:
    kinds = {kind for kind in frames.FRAMES if kind.sender is Sender.CLIENT}
    assert OPEN_FRAMES.keys() | OTHER_FRAMES.keys() == kinds
    assert not OPEN_FRAMES.keys() & OTHER_FRAMES.keys()
    assert {kind for kind in TABLE[State.OPEN] if kind.sender is Sender.CLIENT} == set(OPEN_FRAMES)
    for kind, state in OTHER_FRAMES.items():
        assert [at for at in State if kind in TABLE[at]] == [state]


def test_every_route_has_a_row() -> None:
    routes = http.application(None).routes  # type: ignore[arg-type]
    found = {
        (method, route.path)
        for route in routes
        if isinstance(route, Route)
        for method in route.methods or ()
    }
    assert found == set(ROUTES)
    assert all(isinstance(route, Route) for route in routes)


def test_every_statement_and_command_has_a_row() -> None:
    assert set(STATEMENTS) == set(StatementType)
    assert set(COMMANDS) == set(get_args(commands.Command))
    acted_on = {kind for kind, roles in STATEMENTS.items() if roles}
    # What a person asks for themself is posted, not commanded.
    posted = {StatementType.DEVICE_REQUEST}
    assert acted_on == set(access.SIGNERS) == set(control._CHANGES) - posted


@pytest.mark.parametrize("role", Role)
def test_the_module_of_decisions_says_what_the_tables_say(role: Role) -> None:
    roles, policy = frozenset({role}), Policy()
    for kind, allowed in OPEN_FRAMES.items():
        assert (access.may_use(kind, roles, policy) is None) is (role in allowed), kind
    for route, allowed_here in ROUTES.items():
        if allowed_here:
            may = access.may_attach(route[0], roles, policy) is None
            assert may is (role in allowed_here), route
    for statement, signers in STATEMENTS.items():
        strong = access.may_command(statement, roles, strong=True)
        assert strong is (None if role in signers else Code.FORBIDDEN), statement
        weak = access.may_command(statement, roles, strong=False)
        if role is Role.ADMINISTRATOR and role in signers:
            assert weak is Code.NOT_STRONG
        else:
            assert weak is strong
    assert (access.may_certify(roles) is None) is (role is Role.RECORDER)
    assert access.may_reconcile(roles, revoked=False) is (role is Role.RECORDER)
    assert not access.may_reconcile(roles, revoked=True)
    assert access.reads_audit(roles) is (role is Role.RECORDER)
    assert access.reads_control(roles) is (role is not Role.WITNESS)
    assert access.is_person(roles) is (role not in {Role.RECORDER, Role.WITNESS})
    for statement in StatementType:
        to_device = access.may_state(statement, by=roles, to=frozenset({Role.CLINICIAN}))
        to_recorder = access.may_state(statement, by=roles, to=frozenset({Role.RECORDER}))
        tells = role is Role.RECORDER and statement in TOLD
        assert to_device is (None if tells else Code.NO_SUCH)
        heard = tells or statement in STATED
        assert to_recorder is (None if heard else Code.INVALID), statement


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("action", Action)
def test_a_policy_takes_each_right_from_each_role_and_gives_none(
    role: Role, action: Action
) -> None:
    roles = frozenset({role})
    kept = {Role.RECORDER, Role.ADMINISTRATOR} if action is Action.COMMAND else {Role.RECORDER}
    policy = Policy(version=1, rights={action: frozenset(kept)})
    assert (access.may_act(action, roles, policy) is None) is (role in kept)
    for other in Action:
        if other is not action:
            assert (access.may_act(other, roles, policy) is None) is (role in ALLOWED[other])
    assert access.may_act(action, frozenset(), policy) is Code.FORBIDDEN


async def as_role(site: Site, role: Role) -> Client:
    """Return an open connection of a device of one role, with its person just proved."""
    if role is Role.RECORDER:
        person = site.hospital.people[harness.RECORDER]
    else:
        name = f"{role.name.lower()}/phone"
        person = site.hospital.people.get(name) or site.hospital.enrol(name, role)
    client = await site.open(person)
    site.connection(client).strong_until_s = float("inf")
    return client


async def code_of(client: Client, frame: Frame) -> Code | None:
    """Send a frame, and return the code of its answer, if it has one."""
    await client.send(frame)
    if isinstance(frame, frames.Acknowledge):
        # It has no answer: the next frame is heard because this one ended nothing.
        found: Frame = await client.answer(
            lambda ref: frames.Authenticate(ref=ref, password="", code="")
        )
        assert isinstance(found, frames.Refused)
        return None
    mine = (frames.Deliver, frames.Ring, frames.Ended)
    found = await client.expect(Frame, lambda one: not isinstance(one, mine))
    code = getattr(found, "code", None)
    return None if code is None else Code(code)


@pytest.mark.parametrize("role", Role)
async def test_a_running_relay_answers_each_frame_by_the_table(tmp_path: Path, role: Role) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        for kind, allowed in OPEN_FRAMES.items():
            client = await as_role(site, role)
            frame = _meant(client, kind)
            code = await code_of(client, frame)
            assert (code is Code.FORBIDDEN) is (role not in allowed), (kind, code)
        for kind in OTHER_FRAMES:
            client = await as_role(site, role)
            await client.socket.send(frames.encode(example_frame(kind)))
            assert (await client.closed()).code == Code.OUT_OF_STATE, kind


def _meant(client: Client, kind: type[Frame]) -> Frame:
    """Return a frame that gets as far as the question of roles."""
    conversation = bytes(32)
    if kind is frames.Append:
        return harness.message(client, conversation, epoch=1)
    if kind is frames.AppendCommit:
        _, message = harness.commit_message(client, conversation, epoch=1, added=[], removed=[])
        return frames.AppendCommit(message=message, welcome=b"")
    if kind is frames.Command:
        body = COMMANDS[ResetAccount].encode()
        statement = client.hospital.signed(
            StatementType.COMMAND, body, by=client.person.signatory(Purpose.ADMINISTRATOR)
        )
        return frames.Command(ref=1, statement=statement)
    return example_frame(kind)


@pytest.mark.parametrize("kind", [*OPEN_FRAMES, *OTHER_FRAMES])
async def test_a_running_relay_answers_strangers_by_the_table(
    tmp_path: Path, kind: type[Frame]
) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        client = await site.client(site.hospital.enrol("ann/phone"))
        if kind is frames.Prove:
            await client.greet()
        await client.socket.send(frames.encode(example_frame(kind)))
        data = frames.decode(await client.socket.recv(decode=False), sender=Sender.RELAY)
        if kind in WITHOUT_PROOF:
            expected = {frames.Hello: Code.VERSION, frames.Prove: Code.NOT_PROVED}[kind]
            heard = isinstance(data, frames.Challenge)
            assert heard or (isinstance(data, frames.Close) and data.code == expected)
        else:
            assert isinstance(data, frames.Close)
            assert data.code == Code.OUT_OF_STATE


@pytest.mark.parametrize("role", Role)
async def test_a_restored_relay_hears_by_the_table(tmp_path: Path, role: Role) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        known = await as_role(site, role)
        harness.owe(site)
        client = await site.client(known.person)
        await client.greet()
        answer = await client.prove()
        if role is Role.RECORDER:
            assert isinstance(answer, frames.Reconciling)
        else:
            assert isinstance(answer, frames.Close)
            assert answer.code == Code.RECONCILING


def expected_status(method: str, allowed: Collection[Role] | None, role: Role | None) -> set[int]:
    if allowed is None:
        return {200}
    if not allowed:
        return {404}
    if role is None:
        return {401}
    if role not in allowed:
        return {403}
    return {204} if method == "DELETE" else {400, 404}


@pytest.mark.parametrize("role", [None, *Role])
async def test_a_running_relay_answers_each_route_by_the_table(
    tmp_path: Path, role: Role | None
) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        headers = {}
        if role is not None:
            headers["Authorization"] = f"Bearer {(await as_role(site, role)).token.hex()}"
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{site.port}", trust_env=False
        ) as client:
            for (method, path), allowed in ROUTES.items():
                answer = await client.request(
                    method,
                    path.replace("{blob}", "0" * 32),
                    headers=headers,
                )
                assert answer.status_code in expected_status(method, allowed, role), (method, path)


@pytest.mark.parametrize(
    "credential",
    ["", "Bearer", "Bearer zz", "Basic YTpi", "Bearer " + "00" * 32, "00" * 32, "é"],
)
async def test_without_a_sessions_token_each_guarded_route_is_shut(
    tmp_path: Path, credential: str
) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        ann = await site.open(site.hospital.enrol("ann/phone"))
        gone = await site.open(site.hospital.enrol("bob/phone"))
        await gone.socket.close()
        await ann.answer(lambda ref: frames.Lookup(ref=ref, users=()))
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{site.port}", trust_env=False
        ) as client:
            for tried in (credential.encode(), b"Bearer " + gone.token.hex().encode()):
                for (method, path), allowed in ROUTES.items():
                    if allowed:
                        answer = await client.request(
                            method,
                            path.replace("{blob}", "0" * 32),
                            headers=[(b"Authorization", tried)],
                        )
                        assert answer.status_code == 401, (method, path)


@pytest.mark.parametrize("role", Role)
async def test_each_command_counts_from_an_administrator_alone(tmp_path: Path, role: Role) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        client = await as_role(site, role)
        signatory = client.person.signatory(Purpose.ADMINISTRATOR)
        for kind, one in COMMANDS.items():
            statement = signed(site, StatementType.COMMAND, one.encode(), signatory)
            code = await code_of(client, frames.Command(ref=1, statement=statement))
            if role is Role.ADMINISTRATOR:
                expected = None if kind in VALID_EFFECT else Code.NO_SUCH
                expected = Code.INVALID if kind is SetLogPolicy else expected
            else:
                # The recorder may hand in what an administrator signed, and sign none itself.
                expected = Code.INVALID if role is Role.RECORDER else Code.FORBIDDEN
            assert code is expected, kind
