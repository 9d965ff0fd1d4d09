"""Every "may X do Y", as a table; and the process that cannot decrypt."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from crypto.names import Role
from crypto.statement import StatementType
from protocol import frames
from protocol.errors import Code
from protocol.frames import Frame, Sender
from protocol.identifiers import DeviceId
from protocol.policy import Policy
from protocol.session import TABLE, State
from server import access
from server.access import Standing
from server.handlers import HANDLERS
from tests.protocol.strategies import example_context

NOBODY: frozenset[Role] = frozenset()
MEMBERS = {Role.CLINICIAN, Role.AFFILIATE, Role.ADMINISTRATOR, Role.OFFICER, Role.RECORDER}
ALLOWED: dict[type[Frame], set[Role]] = {
    frames.Append: MEMBERS,
    frames.AppendCommit: MEMBERS,
    frames.Lookup: MEMBERS,
    frames.LookupCertificates: MEMBERS,
    frames.GetReach: MEMBERS,
    frames.PublishKeyPackages: MEMBERS,
    frames.ClaimKeyPackage: MEMBERS,
    frames.Command: {Role.ADMINISTRATOR, Role.RECORDER},
    frames.Witness: {Role.RECORDER},
    frames.GetWitnessKey: {Role.RECORDER},
    frames.Standing: MEMBERS,
}
FROM_CLIENT = [kind for kind in frames.FRAMES if kind.sender is Sender.CLIENT]


@pytest.mark.parametrize("role", [*Role, None])
@pytest.mark.parametrize("kind", FROM_CLIENT)
def test_each_role_and_no_role_may_send_what_the_table_says(
    kind: type[Frame], role: Role | None
) -> None:
    roles = NOBODY if role is None else frozenset({role})
    expected = None if kind not in ALLOWED or role in ALLOWED[kind] else Code.FORBIDDEN
    assert access.may_use(kind, roles, Policy()) is expected


def test_every_frame_of_a_client_has_a_handler_and_no_other_has() -> None:
    assert set(HANDLERS) == set(FROM_CLIENT)


def test_what_needs_no_policy_is_a_devices_own_affair() -> None:
    free = set(FROM_CLIENT) - set(ALLOWED)
    opening = {frames.Hello, frames.Prove, frames.Unlock, frames.Enrol, frames.ConfirmEnrolment}
    own = {frames.Authenticate, frames.StoreShare, frames.GetShare, frames.Acknowledge, frames.Post}
    own |= {frames.TestAlert, frames.AlertHeard}
    restored = {frames.Adopt, frames.Replay, frames.Resume}
    assert free == opening | own | restored
    for kind in restored:
        assert [state for state in TABLE if kind in TABLE[state]] == [State.RECONCILING]


@pytest.mark.parametrize("role", [*Role, None])
@pytest.mark.parametrize("kind", list(StatementType))
def test_commands_are_handed_in_by_administrators_and_the_archive_alone(
    kind: StatementType, role: Role | None
) -> None:
    roles = NOBODY if role is None else frozenset({role})
    handed = {
        StatementType.INVITATION,
        StatementType.COMMAND,
        StatementType.SUSPENSION,
        StatementType.WIPE_ORDER,
    }
    may = (role is Role.ADMINISTRATOR and kind in handed) or (
        role is Role.RECORDER and kind in {*handed, StatementType.REVOCATION_LIST}
    )
    assert (access.may_command(kind, roles, strong=True) is None) is may
    weak = access.may_command(kind, roles, strong=False)
    if may and role is Role.ADMINISTRATOR:
        assert weak is Code.NOT_STRONG
    else:
        assert (weak is None) is may


@pytest.mark.parametrize(
    ("revoked", "suspended", "valid", "away_ms", "expected"),
    [
        (False, False, True, 0, Standing.CURRENT),
        (True, False, True, 0, Standing.ENDED),
        (False, True, True, 0, Standing.ENDED),
        (True, False, False, 0, Standing.ENDED),
        (False, False, False, 0, Standing.EXPIRED),
        (False, False, True, access.ABSENCE_MS + 1, Standing.ABSENT),
        (False, False, True, -access.ABSENCE_MS, Standing.CURRENT),
    ],
)
def test_what_a_device_is(
    *, revoked: bool, suspended: bool, valid: bool, away_ms: int, expected: Standing
) -> None:
    found = access.standing(
        revoked=revoked, suspended=suspended, valid=valid, away_ms=away_ms, person=True
    )
    assert found is expected


def test_the_archive_is_never_asked_for_a_password() -> None:
    assert not access.is_person({Role.RECORDER})
    assert access.is_person({Role.RECORDER, Role.CLINICIAN})
    found = access.standing(
        revoked=False, suspended=False, valid=True, away_ms=access.ABSENCE_MS + 1, person=False
    )
    assert found is Standing.CURRENT


def test_a_conversation_is_created_by_an_owner_with_a_recorder_of_the_archive() -> None:
    context = example_context()
    owner, recorder, other = DeviceId("ann/phone"), context.recorder, DeviceId("eve/phone")
    table = [
        (owner, [recorder], [recorder], True),
        (owner, [], [recorder], False),
        (owner, [recorder], [], False),
        (owner, [recorder], [other], False),
        (other, [recorder], [recorder], False),
    ]
    for device, added, recorders, allowed in table:
        code = access.may_create(device, context, added=added, recorders=recorders)
        assert (code is None) is allowed


def test_a_conversation_keeps_its_recorder_which_may_go_and_come_in_one_commit() -> None:
    context = example_context()
    recorder, ann = context.recorder, DeviceId("ann/phone")
    for added, removed, allowed in (
        ((), (recorder,), False),
        ((ann,), (recorder,), False),
        ((recorder,), (recorder,), True),
        ((), (ann,), True),
    ):
        code = access.may_commit(context, None, reads=True, added=added, removed=removed)
        assert (code is None) is allowed


def test_only_the_recorder_voids_certifies_reconciles_and_reads_the_audit_log() -> None:
    context = example_context()
    assert access.may_void(context.recorder, context) is None
    assert access.may_void(DeviceId("ann/phone"), context) is Code.NO_SUCH
    for role in Role:
        alone = frozenset({role})
        is_recorder = role is Role.RECORDER
        assert (access.may_certify(alone) is None) is is_recorder
        assert access.reads_audit(alone) is is_recorder
        assert access.may_reconcile(alone, revoked=False) is is_recorder
        assert not access.may_reconcile(alone, revoked=True)


def test_a_process_that_cannot_import_what_decrypts_carries_a_conversation() -> None:
    script = Path(__file__).with_name("blind_relay.py")
    root = script.parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "tests.server.blind_relay"],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
