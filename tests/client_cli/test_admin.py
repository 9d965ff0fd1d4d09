"""``wardline admin``: what is signed and handed in, and what waits for a second administrator."""

from __future__ import annotations

import io
import re
import stat
from pathlib import Path

import pytest

from client import administration
from client.administration import unarmoured
from client.errors import RefusedError
from client.views import Control
from client.words import Code
from client_cli.output import Exit
from client_cli.people_file import end_of_day_ms
from crypto.certificate import DAY_MS
from crypto.invitation import decode_invitation, decode_link
from crypto.names import Role
from crypto.proof import decode_grant
from crypto.statement import claimed_statement
from crypto.statement_types import Purpose, StatementType
from protocol.commands import (
    ChangeMembers,
    RemoveUser,
    SetDelegate,
    SetHolders,
    SetPerson,
    SetPolicy,
    WipeReason,
    decode_command,
    decode_suspension,
    decode_wipe_order,
)
from protocol.device_codes import application_text, read_grant_text
from protocol.identifiers import RoleName, UserName
from protocol.oncall.commands import SetRole
from protocol.oncall.configuration import Configuration
from protocol.policy import Action, DeviceRules, SignOut
from tests.client_cli.conftest import Run
from tests.client_cli.fake_device import NOT_STRONG, WARD, FakeDevice
from tests.client_cli.fake_statements import STAFF
from tests.crypto.hospital import NOW_MS, new_keys

CORA = STAFF.enrol("cora/phone", ends_ms=NOW_MS - DAY_MS, at_ms=NOW_MS - 9 * DAY_MS)
"""A contractor whose time is over."""

OFFICER = STAFF.enrol("otto/desk", *STAFF.administrators, roles=frozenset({Role.OFFICER}))


def commands(device: FakeDevice) -> list[object]:
    bodies = [claimed_statement(one) for one in device.statements.submitted]
    return [decode_command(one.body) for one in bodies if one.type is StatementType.COMMAND]


def test_an_invitation_is_handed_in_and_its_link_printed_with_a_code(
    device: FakeDevice, run: Run
) -> None:
    ended = run("admin", "users", "invite", "carol", "--name", "Carol C", "--ward", "Ward 4")
    assert ended.status == Exit.DONE
    link = re.search(r"WARDLINE:[A-Z2-7]+", ended.out)
    assert link is not None
    invitation = decode_invitation(claimed_statement(device.statements.submitted[-1]).body)
    assert invitation.invitation_key == decode_link(link[0]).key.public_key
    assert commands(device) == [
        SetPerson(user=invitation.user, display_name="Carol C", ward="Ward 4")  # type: ignore[arg-type]
    ]
    assert "█" in ended.out or "▀" in ended.out


def test_an_officer_is_invited_by_two(device: FakeDevice, run: Run, tmp_path: Path) -> None:
    waiting = tmp_path / "invitation"
    ended = run("admin", "users", "invite", "olga", "--role", "officer", "--to", str(waiting))
    assert ended.status == Exit.DONE
    assert device.statements.submitted == []
    assert stat.S_IMODE(waiting.stat().st_mode) == 0o600
    assert run("admin", "countersign", str(waiting), "--yes").status == Exit.DONE
    (both,) = device.statements.submitted
    assert claimed_statement(both).purposes == (Purpose.ADMINISTRATOR,) * 2


def test_the_second_administrator_reads_before_signing_and_may_refuse(
    device: FakeDevice, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    waiting = tmp_path / "invitation"
    run("admin", "users", "invite", "olga", "--role", "officer", "--to", str(waiting))
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    ended = run("admin", "countersign", str(waiting))
    assert "invites olga as officer" in ended.out
    assert ended.status != Exit.DONE
    assert device.statements.submitted == []


def test_nobody_signs_a_damaged_text(device: FakeDevice, run: Run, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    damaged.write_text("-----BEGIN WARDLINE STATEMENT-----\nAAAA\n")
    assert run("admin", "countersign", str(damaged), "--yes").status == Exit.USAGE
    assert device.statements.submitted == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("Not A Name",),
        ("carol", "--role", "recorder"),
        ("carol", "--ends", "soon"),
        ("carol", "--name", "x\x1b[2J"),
    ],
)
def test_an_invitation_that_breaks_a_rule_is_not_handed_in(
    device: FakeDevice, run: Run, arguments: tuple[str, ...]
) -> None:
    assert run("admin", "users", "invite", *arguments).status == Exit.USAGE
    assert device.statements.submitted == []


CSV = "user,name,ward,roles\ncarol,Carol <C>,Ward 4,clinician\nalice,Alice,,\nolga,Olga,,officer\n"


def test_an_import_invites_the_new_and_leaves_those_who_are_here(
    device: FakeDevice, run: Run, tmp_path: Path
) -> None:
    people, pages = tmp_path / "people.csv", tmp_path / "pages.html"
    people.write_text(CSV)
    dry = run("--json", "admin", "users", "import", str(people), "--dry-run")
    assert [row["user"] for row in dry.json["people"]] == ["carol", "alice", "olga"]
    assert device.statements.submitted == []
    real = run("--json", "admin", "users", "import", str(people), "--pages", str(pages))
    assert real.json == dry.json
    kinds = [claimed_statement(one).type for one in device.statements.submitted]
    assert kinds == [StatementType.COMMAND, StatementType.INVITATION]
    text = pages.read_text()
    assert len(re.findall(r"WARDLINE:[A-Z2-7]+", text)) == 1
    assert "Carol &lt;C&gt;" in text
    assert text.count("<svg") == 1
    assert stat.S_IMODE(pages.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "bad", ["user,name\nNOT OK,x\n", "user,name,roles\nann,Ann,king\n", "user,name\nann\n", "\xff"]
)
def test_an_import_with_one_bad_line_does_nothing(
    device: FakeDevice, run: Run, tmp_path: Path, bad: str
) -> None:
    people, pages = tmp_path / "people.csv", tmp_path / "pages.html"
    people.write_bytes((CSV + bad.partition("\n")[2]).encode() if "," in bad else b"\xff\xfe\x00")
    if "," in bad:
        people.write_text(bad + CSV.partition("\n")[2].replace(",Ward 4,clinician", ""))
    ended = run("admin", "users", "import", str(people), "--pages", str(pages))
    assert ended.status == Exit.USAGE
    assert device.statements.submitted == []
    assert not pages.exists()


def test_nobody_is_invited_whose_last_day_is_over(
    device: FakeDevice, run: Run, tmp_path: Path
) -> None:
    ended = run("admin", "users", "invite", "eve", "--ends", "2027-01-13")
    assert ended.status == Exit.USAGE
    assert "2027-01-13 is over" in ended.err
    people = tmp_path / "people.csv"
    people.write_text("user,name,ends\neve,Eve,2026-01-31\n")
    ended = run("admin", "users", "import", str(people), "--dry-run")
    assert ended.status == Exit.USAGE
    assert "line 2: the last day of work is to come, and 2026-01-31 is over" in ended.err
    assert device.statements.submitted == []
    assert run("admin", "users", "invite", "eve", "--ends", "2027-01-31").status == Exit.DONE


def test_of_a_mistyped_name_no_devices_are_listed_as_if_there_were_none(run: Run) -> None:
    ended = run("admin", "users", "devices", "alice", "alcie")
    assert ended.status == Exit.UNKNOWN
    assert "alice/phone" in ended.out
    assert "No device, or mistyped: alcie." in ended.err
    assert run("admin", "users", "devices", "alice").status == Exit.DONE


def test_nobody_is_reset_who_has_no_device(device: FakeDevice, run: Run) -> None:
    ended = run("admin", "users", "reset", "bteh")
    assert (ended.status, ended.out) == (Exit.UNKNOWN, "")
    assert "Nobody called bteh has a device." in ended.err
    assert device.statements.submitted == []


def test_pages_of_an_earlier_import_are_not_overwritten(
    device: FakeDevice, run: Run, tmp_path: Path
) -> None:
    people, pages = tmp_path / "people.csv", tmp_path / "pages.html"
    people.write_text(CSV)
    pages.write_text("earlier")
    assert run("admin", "users", "import", str(people), "--pages", str(pages)).status != Exit.DONE
    assert pages.read_text() == "earlier"
    assert device.statements.submitted == []


def test_an_import_that_failed_before_its_first_page_can_be_given_again(
    device: FakeDevice, run: Run, tmp_path: Path
) -> None:
    people, pages = tmp_path / "people.csv", tmp_path / "pages.html"
    people.write_text(CSV)
    given = ("admin", "users", "import", str(people), "--pages", str(pages))
    device.statements.refusals = [RefusedError(Code.FORBIDDEN, 0)]
    assert run(*given).status != Exit.DONE
    assert not pages.exists()
    assert run(*given).status == Exit.DONE
    assert pages.read_text().count("<svg") == 1
    assert len(device.statements.submitted) == 2


def test_an_import_that_failed_later_keeps_the_pages_that_may_count(
    device: FakeDevice, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = device.statements.submit

    async def once(statement: bytes) -> None:
        if device.statements.submitted:
            raise RefusedError(Code.FORBIDDEN, 0)
        await submit(statement)

    monkeypatch.setattr(device.statements, "submit", once)
    people, pages = tmp_path / "people.csv", tmp_path / "pages.html"
    people.write_text(CSV)
    given = ("admin", "users", "import", str(people), "--pages", str(pages))
    assert run(*given).status != Exit.DONE
    kept = pages.read_text()
    assert kept.count("<svg") == 1
    assert run(*given).status == Exit.USAGE
    assert pages.read_text() == kept
    assert len(device.statements.submitted) == 1


def test_the_relays_pause_is_kept_and_its_wish_for_a_code_met(
    device: FakeDevice, run: Run, tmp_path: Path
) -> None:
    password = tmp_path / "password"
    password.write_text("a long password\n")
    device.statements.refusals = [RefusedError(Code.RATE_LIMITED, 10), NOT_STRONG]
    ended = run(
        "admin", "users", "reset", "alice", "--code", "123456", "--password-file", str(password)
    )
    assert ended.status == Exit.DONE
    assert device.statements.authenticated == [("a long password", "123456")]
    assert len(device.statements.submitted) == 1


def test_a_wrong_code_is_not_tried_for_ever(device: FakeDevice, run: Run, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("a long password\n")
    device.statements.refusals = [NOT_STRONG, NOT_STRONG]
    files = ("--code", "1", "--password-file", str(password))
    assert run("admin", "users", "reset", "alice", *files).status == Exit.SECRET


def test_without_keyboard_and_file_nothing_is_asked(
    device: FakeDevice, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    device.statements.refusals = [NOT_STRONG]
    ended = run("--json", "admin", "users", "reset", "alice")
    assert (ended.status, ended.error["error"]) == (Exit.USAGE, "no_secret")


def test_a_person_is_removed_after_being_asked(
    device: FakeDevice, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert run("admin", "users", "remove", "alice").status != Exit.DONE
    assert device.statements.submitted == []
    device.on_call = Configuration().commanded(
        SetRole(
            role=RoleName("icu"), version=1, fallback=(UserName("alice"),), owner=UserName("ada")
        ),
        at_ms=NOW_MS,
    )
    ended = run("--json", "admin", "users", "remove", "alice", "--yes")
    assert ended.json["still_on_call"] == ["alice: is the fallback of icu, and has no device"]
    assert commands(device) == [RemoveUser(user="alice")]  # type: ignore[arg-type]
    # Every device of theirs is shut by that, and its wipe ordered.
    orders = [
        decode_wipe_order(claimed_statement(one).body) for one in device.statements.submitted[1:]
    ]
    assert [one.device for one in orders] == ended.json["wipes"] != []
    assert {one.reason for one in orders} == {WipeReason.LEFT}


def test_a_role_is_held_by_those_who_are_named_or_ends(device: FakeDevice, run: Run) -> None:
    held = run("admin", "roles", "hold", "icu", "beth", "alice")
    assert held.status == Exit.DONE
    assert held.err == "No device yet, or mistyped: beth\n"
    assert run("admin", "roles", "hold", "icu", "--nobody").status == Exit.DONE
    assert run("admin", "roles", "hold", "icu").status == Exit.USAGE
    assert [getattr(one, "users") for one in commands(device)] == [("alice", "beth"), ()]  # noqa: B009
    assert all(isinstance(one, SetHolders) for one in commands(device))


def test_a_policy_is_changed_a_right_at_a_time(device: FakeDevice, run: Run) -> None:
    assert run("admin", "policy", "allow", "attach", "clinician").status == Exit.DONE
    (command,) = commands(device)
    assert isinstance(command, SetPolicy)
    assert command.policy.version == 1
    assert {role.name for role in command.policy.roles_for(Action.ATTACH)} == {
        "CLINICIAN",
        "RECORDER",
    }
    assert run("admin", "policy", "allow", "fly", "clinician").status == Exit.USAGE
    rights = run("--json", "admin", "policy", "show").json["policy"]
    assert {row["action"] for row in rights} == set(administration.ACTIONS)


def test_how_devices_are_kept_is_changed_where_it_is_named_and_within_limits(
    device: FakeDevice, run: Run
) -> None:
    assert run("admin", "policy", "devices", "--lease-hours", "0").status == Exit.DONE
    (command,) = commands(device)
    assert isinstance(command, SetPolicy)
    assert command.policy.devices == DeviceRules(lease_hours=0)
    for wrong in (("--lease-hours", "13"), ("--lock-minutes", "0"), ("--keep-days", "-1")):
        assert run("admin", "policy", "devices", *wrong).status != Exit.DONE
    assert len(commands(device)) == 1


def test_a_group_is_changed_by_an_order_that_its_members_carry_out(
    device: FakeDevice, run: Run
) -> None:
    assert run("admin", "groups", "Ward 4", "--add", "bob").status == Exit.DONE
    assert run("admin", "groups", bytes(32).hex(), "--remove", "bob").status == Exit.DONE
    first, second = commands(device)
    assert isinstance(first, ChangeMembers)
    assert isinstance(second, ChangeMembers)
    assert (first.conversation, second.conversation) == (WARD, bytes(32))
    assert run("admin", "groups", "Ward 4").status == Exit.USAGE


def test_a_wipe_names_the_devices_key_and_the_reason(device: FakeDevice, run: Run) -> None:
    ended = run("admin", "wipe", "alice/phone", "--reason", "stolen", "--yes")
    assert ended.status == Exit.DONE
    order = decode_wipe_order(claimed_statement(device.statements.submitted[0]).body)
    assert order.connection_key == STAFF.alice.identity.connection_key
    assert order.reason is WipeReason.STOLEN


def test_an_unknown_device_is_not_wiped(device: FakeDevice, run: Run) -> None:
    assert run("admin", "wipe", "alice/x", "--reason", "lost", "--yes").status == Exit.UNKNOWN
    assert run("admin", "wipe", "alice/phone", "--yes").status == Exit.USAGE
    assert device.statements.submitted == []


def waiting_order(device: FakeDevice) -> None:
    act = administration.wipe(STAFF.alice.identity, WipeReason.LOST)
    statement = STAFF.state(act.kind, act.body, STAFF.administrators[0])
    device.control = [
        Control(sequence=1, at_ms=1, type=act.kind, statement=statement, verified=True)
    ]


def test_a_second_administrator_confirms_the_order_that_waits(device: FakeDevice, run: Run) -> None:
    assert run("admin", "wipe", "alice/phone", "--confirm", "--yes").status == Exit.UNKNOWN
    waiting_order(device)
    assert run("admin", "wipe", "alice/phone", "--confirm", "--yes").status == Exit.DONE
    assert (
        claimed_statement(device.statements.submitted[0]).purposes == (Purpose.ADMINISTRATOR,) * 2
    )


def an_officers_order_waits(device: FakeDevice) -> str:
    identity = OFFICER.identity
    act = administration.wipe(identity, WipeReason.LEFT)
    statement = STAFF.state(act.kind, act.body, STAFF.administrators[0])
    device.control = [
        Control(sequence=1, at_ms=1, type=act.kind, statement=statement, verified=True)
    ]
    return identity.name


def test_an_officers_device_is_confirmed_by_force_only(device: FakeDevice, run: Run) -> None:
    name = an_officers_order_waits(device)
    assert run("admin", "wipe", name, "--confirm", "--yes").status == Exit.USAGE
    assert device.statements.submitted == []
    assert run("admin", "wipe", name, "--confirm", "--force", "--yes").status == Exit.DONE
    assert (
        claimed_statement(device.statements.submitted[0]).purposes == (Purpose.ADMINISTRATOR,) * 2
    )
    wrong = run("admin", "wipe", name, "--reason", "left", "--force", "--yes")
    assert wrong.status == Exit.USAGE


def test_an_administrator_is_told_what_an_officers_wipe_waits_for(
    device: FakeDevice, run: Run
) -> None:
    name = an_officers_order_waits(device)
    forced = f"wardline admin wipe {name} --confirm --force"
    assert forced in run("admin", "wipes").out
    assert run("--json", "admin", "wipes").json["wipes"][0]["officer"] is True
    assert forced in run("admin", "wipe", name, "--reason", "left", "--yes").out
    assert forced not in run("admin", "wipe", "alice/phone", "--reason", "left", "--yes").out


def test_how_far_wipes_have_come_is_told_without_network_too(device: FakeDevice, run: Run) -> None:
    waiting_order(device)
    device.connects = False
    (wipe,) = run("--json", "admin", "wipes").json["wipes"]
    assert (wipe["device"], wipe["stage"], wipe["reason"]) == ("alice/phone", "ordered", "lost")
    assert "wardline admin wipe alice/phone --confirm" in run("admin", "wipes").out
    log = run("--json", "admin", "log").json["control"]
    assert log[0]["lines"][0] == "wipes alice/phone, because it is lost"


def test_any_number_of_devices_is_suspended_and_restored(device: FakeDevice, run: Run) -> None:
    assert run("admin", "suspend", "alice/phone", "bob/desk").status == Exit.DONE
    assert run("admin", "restore", "alice/phone").status == Exit.DONE
    bodies = [decode_suspension(claimed_statement(one).body) for one in device.statements.submitted]
    assert [(one.devices, one.lifted) for one in bodies] == [
        (("alice/phone", "bob/desk"), False),
        (("alice/phone",), True),
    ]


def test_a_person_suspends_their_own_device_and_finds_it_again(
    device: FakeDevice, run: Run
) -> None:
    assert run("suspend", "ada/phone").out == "Suspended: ada/phone\n"
    assert run("restore", "ada/phone").out == "In use again: ada/phone\n"
    said = [claimed_statement(one) for one in device.statements.submitted]
    assert [one.purposes for one in said] == [(Purpose.DEVICE,)] * 2
    assert [decode_suspension(one.body).lifted for one in said] == [False, True]


@pytest.mark.parametrize("command", [("suspend",), ("admin", "suspend"), ("restore",)])
def test_what_is_no_name_of_a_device_is_told_alike_whoever_suspends(
    device: FakeDevice, run: Run, command: tuple[str, ...]
) -> None:
    ended = run("--json", *command, "phone")
    assert (ended.status, ended.error["error"]) == (Exit.USAGE, "no_device_name")
    assert device.statements.submitted == []


def test_whoever_suspends_what_is_not_theirs_is_told_who_can(device: FakeDevice, run: Run) -> None:
    for command in ("suspend", "restore"):
        device.statements.refusals = [RefusedError(Code.INVALID)]
        ended = run("--json", command, "bob/phone")
        assert ended.status == Exit.REFUSED
        assert ended.error["error"] == "not_yours"


def test_the_device_at_hand_is_not_suspended_but_signed_out(device: FakeDevice, run: Run) -> None:
    ended = run("--json", "suspend", "ada/desk")
    assert ended.status == Exit.USAGE
    assert ended.error["error"] == "this_device"
    assert device.statements.submitted == []


def test_signing_out_where_policy_keeps_stores_removes_nothing(run: Run, tmp_path: Path) -> None:
    assert run("--json", "sign-out", "--home", str(tmp_path)).json == {"removed": False}


def test_what_becomes_of_a_store_at_sign_out_is_policy(device: FakeDevice, run: Run) -> None:
    assert run("admin", "policy", "devices", "--sign-out", "remove").status == Exit.DONE
    (command,) = commands(device)
    assert isinstance(command, SetPolicy)
    assert command.policy.devices == DeviceRules(sign_out=SignOut.REMOVE)
    assert "sign-out lock" in run("admin", "policy", "show").out


def test_a_ward_gets_its_delegate_and_loses_it(device: FakeDevice, run: Run) -> None:
    assert run("admin", "delegate", "Ward 4", "night-charge").status == Exit.DONE
    assert run("admin", "delegate", "Ward 4").status == Exit.DONE
    assert commands(device) == [
        SetDelegate(ward="Ward 4", role=RoleName("night-charge")),
        SetDelegate(ward="Ward 4", role=None),
    ]


def test_what_a_device_could_read_is_told(run: Run) -> None:
    rows = run("--json", "admin", "exposure", "alice/phone").json["conversations"]
    assert [row["title"] for row in rows] == ["Ward 4"]
    assert run("--json", "admin", "exposure", "bob/desk").json["conversations"] == []


def test_of_a_device_that_is_mistyped_no_exposure_is_told(device: FakeDevice, run: Run) -> None:
    # "None of the conversations" would read as if nothing had happened.
    ended = run("admin", "exposure", "alice/phnoe")
    assert (ended.status, ended.out) == (Exit.UNKNOWN, "")
    assert "There is no device alice/phnoe." in ended.err
    device.connects = False
    assert run("admin", "exposure", "alice/phnoe").status == Exit.UNREACHABLE
    assert run("admin", "exposure", "alice/phone").status == Exit.DONE


def test_a_device_of_who_has_lost_all_is_let_in_by_two(
    device: FakeDevice, run: Run, tmp_path: Path
) -> None:
    text = application_text(new_keys("alice", "new").claim)
    first = run("--json", "admin", "approve", text, "--of", "alice/phone")
    assert first.status == Exit.DONE
    waiting = tmp_path / "approval"
    waiting.write_text(first.json["statement"])
    second = run("--json", "admin", "countersign", str(waiting), "--yes")
    grant = read_grant_text(second.json["answer"])
    assert decode_grant(claimed_statement(grant.statement).body).claim.device == "new"
    assert claimed_statement(grant.statement).purposes == (Purpose.ADMINISTRATOR,) * 2
    assert device.statements.submitted == []
    assert unarmoured(first.json["statement"]) != grant.statement


def test_who_is_back_after_the_end_date_is_let_in_with_a_new_one(
    device: FakeDevice, run: Run
) -> None:
    text = application_text(new_keys("cora", "new").claim)
    assert run("admin", "approve", text, "--of", "cora/phone").status == Exit.USAGE
    over = run("admin", "approve", text, "--of", "cora/phone", "--ends", "2020-01-31")
    assert over.status == Exit.USAGE
    assert run("admin", "approve", text, "--of", "cora/phone", "--ends", "x").status == Exit.USAGE
    for day, ends_ms in (("2031-01-31", end_of_day_ms("2031-01-31")), ("never", None)):
        let_in = run("--json", "admin", "approve", text, "--of", "cora/phone", "--ends", day)
        body = claimed_statement(unarmoured(let_in.json["statement"])).body
        assert decode_grant(body).ends_ms == ends_ms
        assert decode_grant(body).origin == CORA.identity.origin


def test_a_further_device_is_vouched_for_by_its_own_person(device: FakeDevice, run: Run) -> None:
    text = application_text(new_keys("ada", "tablet").claim)
    grant = read_grant_text(run("--json", "vouch", text).json["grant"])
    assert claimed_statement(grant.statement).purposes == (Purpose.DEVICE,)
    assert run("--json", "vouch", application_text(new_keys("bob", "x").claim)).status == Exit.USAGE
    assert device.statements.submitted == []
