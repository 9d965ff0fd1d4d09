"""``wardline admin oncall`` and ``wardline duty``, over a device that is none."""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from client import oncall_admin, shift_change
from client.caches import Cached
from client.oncall_admin import after
from client.oncall_plans import missing
from client.pages import Pages
from client.shift_change import HandedOff, Waiting
from client.views import Control
from client_cli.output import Exit
from client_cli.show import date
from crypto.statement import claimed_statement
from crypto.statement_types import Purpose, StatementType
from protocol.commands import decode_command
from protocol.identifiers import RoleName, UserName
from protocol.oncall.commands import (
    AddChange,
    AgreeSwap,
    ClaimShift,
    DropSwap,
    HandOverShift,
    OfferShift,
    SetCalendarLink,
    SetImported,
    SetQuietHours,
    decode_request,
)
from protocol.oncall.configuration import Configuration, Proposal
from protocol.oncall.override import Override, Swap
from tests.client_cli.conftest import Run
from tests.client_cli.fake_device import FakeDevice
from tests.client_cli.fake_statements import STAFF
from tests.crypto.hospital import NOW_MS

HOUR = 3_600_000
PLAN = """
[role.icu]
zone = "Europe/Berlin"
fallback = ["beth"]
holders = ["alice", "ada"]
hand_over = true
numbers = {{ beth = "4712" }}
[[role.icu.layer]]
name = "always"
users = ["{user}"]
"""
ICU = RoleName("icu")


class Duty(Pages):
    """Duty over a device without a relay: alice alone can be woken."""

    async def wakeable(self, users: Collection[UserName]) -> Mapping[UserName, bool]:
        return {user: user == "alice" for user in users}


class Rows:
    """The cache of a device's store."""

    def __init__(self) -> None:
        self._rows: dict[bytes, Cached] = {}

    def get(self, _: str, key: bytes) -> Cached | None:
        return self._rows.get(key)

    def all(self, _: str) -> list[Cached]:
        return list(self._rows.values())

    def update(self, _: str, changes: Mapping[bytes, bytes], *, at_ms: int) -> None:
        for key, value in changes.items():
            self._rows[key] = Cached(key=key, value=value, at_ms=at_ms)


@pytest.fixture
def ward(device: FakeDevice, tmp_path: Path) -> Any:
    """Return a device that knows a role, and takes in what it hands in."""
    fake: Any = device
    fake.holders = {ICU: (UserName("ada"), UserName("alice"))}
    fake.on_call = apply(PLAN.format(user="alice"), Configuration())
    fake.now_ms = lambda: NOW_MS
    fake.trust = STAFF.trust
    fake.duty = Duty(fake)
    fake.store = SimpleNamespace(cache=Rows())
    return fake


def apply(text: str, configuration: Configuration) -> Configuration:
    made = missing(
        text, configuration, holders={}, owner=UserName("ada"), now_ms=NOW_MS - 24 * HOUR
    )
    return after(configuration, made, now_ms=NOW_MS - 24 * HOUR)


def commands(ward: Any) -> list[Any]:
    return [decode_command(body) for body in submitted(ward, StatementType.COMMAND)]


def requests(ward: Any) -> list[Any]:
    return [decode_request(body) for body in submitted(ward, StatementType.DEVICE_REQUEST)]


def submitted(ward: Any, kind: StatementType) -> list[bytes]:
    claims = map(claimed_statement, ward.statements.submitted)
    return [claim.body for claim in claims if claim.type is kind]


def test_now_says_who_is_on_call_and_who_cannot_be_woken(ward: Any, run: Run) -> None:
    (role,) = run("--json", "admin", "oncall", "now").json["roles"]
    assert (role["role"], role["on_call"], role["unreachable"]) == ("icu", ["alice"], [])
    ward.on_call = apply(PLAN.format(user="beth"), Configuration())
    (role,) = run("--json", "admin", "oncall", "now").json["roles"]
    assert role["unreachable"] == ["beth"]
    assert "beth" in run("admin", "oncall", "now").out
    assert "icu" in run("duty", "board").out
    assert "icu: beth" in run("admin", "oncall", "print").out


def test_a_plan_is_shown_before_it_is_signed_and_then_applied_once(
    ward: Any, run: Run, tmp_path: Path
) -> None:
    file = tmp_path / "plan.toml"
    file.write_text(PLAN.format(user="beth"))
    shown = run("--json", "admin", "oncall", "apply", str(file), "--what-if")
    assert shown.status == Exit.DONE
    assert {(move["user"], move["gains"]) for move in shown.json["moves"]} == {
        ("alice", False),
        ("beth", True),
    }
    assert ward.statements.submitted == []
    assert run("admin", "oncall", "apply", str(file)).status == Exit.DONE
    assert len(ward.statements.submitted) == 1
    # A role that has no plan is told of at once: a page that goes on to it reaches nobody.
    file.write_text(PLAN.format(user="beth").replace("hand_over", 'backup = "lab"\nhand_over'))
    assert "names lab, which has no plan" in run("admin", "oncall", "apply", str(file)).out
    file.write_text("[role.icu")
    assert run("admin", "oncall", "apply", str(file)).status == Exit.USAGE


def test_overrides_offers_and_removals_are_signed(ward: Any, run: Run) -> None:
    times = ("--from", "2027-01-01T08:00", "--to", "2027-01-01T20:00")
    base = ("admin", "oncall")
    assert run(*base, "override", "icu", *times, "--remove", "alice", "--add", "beth").status == 0
    assert run(*base, "offer", "icu", *times).status == 0
    change, offer = commands(ward)
    assert isinstance(change, AddChange)
    assert isinstance(offer, OfferShift)
    assert (offer.end_ms - offer.start_ms) == 12 * HOUR
    assert run(*base, "override", "plumber", *times, "--add", "beth").status == Exit.UNKNOWN
    assert run(*base, "override", "icu", *times).status == Exit.USAGE
    assert run(*base, "remove", "icu", "no-such").status == Exit.USAGE
    assert run(*base, "withdraw", "icu", "no-such").status == Exit.USAGE
    assert len(ward.statements.submitted) == 2


def test_coverage_ends_with_a_failure_where_something_is_wrong(ward: Any, run: Run) -> None:
    whole = run("--json", "admin", "oncall", "coverage")
    assert whole.status == Exit.DONE
    assert whole.json["roles"][0]["percent"] == 100
    ward.on_call = apply(
        PLAN.format(user="alice").replace(
            'name = "always"', 'name="d"\nhours=["mon-fri 08:00-20:00"]'
        ),
        Configuration(),
    )
    gaps = run("admin", "oncall", "coverage", "--days", "7")
    assert gaps.status == Exit.CHECK_FAILED
    assert "nobody from" in gaps.out
    assert "!" in gaps.out


def test_a_calendar_is_imported_and_people_without_a_user_stop_it(
    ward: Any, run: Run, tmp_path: Path
) -> None:
    table = tmp_path / "feed.csv"
    table.write_text("role,person,start,end\nicu,Beth Berg RN,2027-01-01T08:00,2027-01-01T20:00\n")
    words = ("admin", "oncall", "import", "icu", str(table), "--format", "csv")
    span = ("--from", "2027-01-01", "--to", "2027-01-31")
    assert run(*words, *span).status == Exit.USAGE
    people = tmp_path / "people.csv"
    people.write_text("Beth Berg RN,beth\n")
    done = run(*words, *span, "--people", str(people))
    assert done.status == Exit.DONE, done.err
    (command,) = commands(ward)
    assert isinstance(command, SetImported)
    assert command.plan is not None
    assert command.plan.shifts[0].users == ("beth",)
    assert run(*words, "--from", "2027-01-01", "--to", "2028-01-01").status == Exit.USAGE
    # What says the same again is signed by nobody.
    ward.on_call = after(ward.on_call, [command], now_ms=NOW_MS)
    assert run(*words, *span, "--people", str(people)).status == Exit.DONE
    assert len(commands(ward)) == 1
    assert "calendar" not in run("admin", "oncall", "coverage").out
    # One that breaks, and one that nobody fetched for a day, are told of; the last copy stays.
    table.write_text("role,person\nnonsense")
    assert run(*words, *span, "--people", str(people)).status == Exit.USAGE
    told = run("admin", "oncall", "coverage")
    assert told.status == Exit.CHECK_FAILED
    assert "its calendar was last read 0 h ago:" in told.out
    table.write_text("role,person,start,end\nicu,beth,2027-01-01T08:00,2027-01-01T20:00\n")
    assert run(*words, *span).status == Exit.DONE
    ward.now_ms = lambda: NOW_MS + 27 * HOUR
    assert "its calendar was last read 27 h ago\n" in run("admin", "oncall", "coverage").out


def test_swaps_and_numbers_are_signed_and_whoever_no_page_reaches_is_named(
    ward: Any, run: Run
) -> None:
    mine = ("--from", "2027-01-01T08:00", "--to", "2027-01-01T20:00", "--with", "alice")
    theirs = ("--their-from", "2027-01-02T08:00", "--their-to", "2027-01-02T20:00")
    assert run("admin", "oncall", "swap", "icu", "ada", *mine, *theirs).status == Exit.DONE
    assert run("admin", "oncall", "number", "icu", "4711").status == Exit.DONE
    assert run("admin", "oncall", "number", "icu", "", "--of", "beth").status == Exit.DONE
    assert run("admin", "oncall", "number", "icu", "ring me").status == Exit.USAGE
    swap, own, nobody = commands(ward)
    assert isinstance(swap.change, Swap)
    assert (swap.change.first, swap.change.second) == ("ada", "alice")
    assert [(one.user, one.number) for one in own.numbers] == [(None, "4711"), ("beth", "4712")]
    assert nobody.numbers == ()
    assert "tel. beth: 4712" in run("admin", "oncall", "print").out
    assert "(tel. 4712)" in run("admin", "oncall", "print").out
    # Without a number beth, who has no device, is reached by nothing.
    ward.on_call = after(ward.on_call, [nobody], now_ms=NOW_MS)
    told = run("admin", "oncall", "coverage")
    assert told.status == Exit.CHECK_FAILED
    assert "beth: is the fallback of icu, and has no device" in told.out


def test_who_was_on_call_is_asked_of_the_control_log_also_as_it_was_known_then(
    ward: Any, run: Run
) -> None:
    ward.control = []
    asked = ("admin", "oncall", "who", "icu", "--at", "2027-02-01T08:00")
    assert run(*asked).status == Exit.UNKNOWN
    made = missing(
        PLAN.format(user="beth"), Configuration(), holders={}, owner=ward.user, now_ms=NOW_MS
    )
    covered = oncall_admin.instant("2027-02-01T00:00", "UTC")
    change = Override(
        name="ill",
        start_ms=covered,
        end_ms=covered + 24 * HOUR,
        removed=UserName("beth"),
        added=UserName("alice"),
    )
    version = after(Configuration(), made, now_ms=NOW_MS).version(ICU) + 1
    late = AddChange(role=ICU, version=version, change=change)
    recorded = [*((one, NOW_MS - 24 * HOUR) for one in made), (late, NOW_MS - HOUR)]
    ward.control = [
        Control(
            sequence=number,
            at_ms=at_ms,
            type=StatementType.COMMAND,
            statement=STAFF.state(
                StatementType.COMMAND, command.encode(), STAFF.ada.signs_as(Purpose.ADMINISTRATOR)
            ),
            verified=True,
        )
        for number, (command, at_ms) in enumerate(recorded, start=1)
    ]
    assert run("--json", *asked).json["on_call"] == ["alice"]
    between = datetime.fromtimestamp((NOW_MS - 2 * HOUR) / 1000, UTC).isoformat()[:16]
    told = run("--json", *asked, "--known", between, "--zone", "UTC")
    assert told.json["on_call"] == ["beth"]


def test_shifts_are_exported(ward: Any, run: Run) -> None:
    assert "SUMMARY:icu: alice" in run("admin", "oncall", "export", "icu").out
    assert run("admin", "oncall", "export", "plumber").status == Exit.UNKNOWN


def test_people_ask_for_their_own_quiet_shifts_and_calendar(ward: Any, run: Run) -> None:
    times = ("--from", "2027-01-01T08:00", "--to", "2027-01-01T20:00")
    assert run("duty", "quiet", "22:00-07:00", "--zone", "Europe/Berlin").status == 0
    assert run("duty", "hand-over", "icu", "alice", *times).status == 0
    assert run("duty", "claim", "icu", "open-4").status == 0
    link = run("duty", "calendar").out
    assert link.startswith("https://relay.example.org:8443/v1/calendars/")
    assert run("duty", "calendar", "--end").status == 0
    kinds = [type(request) for request in requests(ward)]
    assert kinds == [SetQuietHours, HandOverShift, ClaimShift, SetCalendarLink, SetCalendarLink]
    assert run("duty", "quiet", "night").status == Exit.USAGE
    assert run("duty", "hand-over", "plumber", "alice", *times).status == Exit.UNKNOWN
    assert "No shift" in run("duty", "offers").out


def test_a_swap_is_proposed_listed_agreed_to_and_declined(
    ward: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = ("--from", "2027-03-01T08:00", "--to", "2027-03-01T20:00")
    theirs = ("--their-from", "2027-03-02T08:00", "--their-to", "2027-03-02T20:00")
    # It is not hers yet: the rule is said here, and nothing is handed in.
    assert (
        "the shift that they give"
        in run("duty", "swap", "icu", *mine, "--with", "alice", *theirs).err
    )
    plan = ward.on_call.plans[ICU]
    begins_ms = oncall_admin.instant(mine[1], "Europe/Berlin")
    adds = oncall_admin.overridden(
        plan, start_ms=begins_ms, end_ms=begins_ms + HOUR, removed=None, added=UserName("ada")
    )
    ward.on_call = after(ward.on_call, [adds], now_ms=NOW_MS)
    proposed = run("duty", "swap", "icu", *mine, "--with", "alice", *theirs)
    assert proposed.status == Exit.DONE
    (request,) = requests(ward)
    assert isinstance(request, AgreeSwap)
    assert (request.swap.first, request.swap.second) == ("ada", "alice")
    assert f"wardline duty agree icu {request.swap.name}" in proposed.out
    assert "No swap" in run("duty", "swaps").out
    # As alice has signed it first: ada reads of it, agrees, or declines.
    plan = replace(
        ward.on_call.plans[ICU], proposals=(Proposal(swap=request.swap, user=UserName("alice")),)
    )
    ward.on_call = ward.on_call.with_plan(plan)
    (waiting,) = run("--json", "duty", "swaps").json["swaps"]
    assert waiting["waits_for"] == "ada"
    assert "waits for ada" in run("admin", "oncall", "coverage", "--days", "366").out
    # What it is now is said before it is signed, whatever it was when she read of it.
    with monkeypatch.context() as patched:
        patched.setattr("sys.stdin", io.StringIO("n\n"))
        asked = run("duty", "agree", "icu", request.swap.name)
    assert asked.status == Exit.DECLINED
    assert "alice has icu from" in asked.out + asked.err
    assert requests(ward) == [request]
    # A script agrees to what it has read, and not to another that has come under its name.
    agree = ("duty", "agree", "icu", request.swap.name, "--only", waiting["code"])
    longer = replace(request.swap, second_end_ms=request.swap.second_end_ms + HOUR)
    proposals = (Proposal(swap=longer, user=UserName("alice")),)
    ward.on_call = ward.on_call.with_plan(replace(plan, proposals=proposals))
    assert run(*agree).status == Exit.REFUSED
    assert requests(ward) == [request]
    ward.on_call = ward.on_call.with_plan(plan)
    said = run(*agree).out
    ends = (request.swap.first_end_ms, request.swap.second_end_ms)
    assert all(date(end_ms) in said for end_ms in ends)
    assert run("duty", "agree", "icu", request.swap.name, "--no").status == Exit.DONE
    assert requests(ward)[1:] == [request, DropSwap(role=ICU, name=request.swap.name)]
    assert run("duty", "agree", "icu", "swap-99").status == Exit.UNKNOWN


def test_tasks_and_note_are_handed_off_and_taken_over(
    ward: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, ...]] = []

    async def passed(_: Any, to: UserName, *, subject: str, words: str) -> HandedOff:
        asked.append((to, subject, words))
        return HandedOff(note=None, offered=("blood",), kept=("letter",), pages=2)

    async def taken(_: Any) -> Waiting:
        asked.append(())
        return Waiting(notes=(), tasks=(), pages=())

    monkeypatch.setattr(shift_change, "hand_off", passed)
    monkeypatch.setattr(shift_change, "take_over", taken)
    monkeypatch.setattr(shift_change, "waiting", lambda _: Waiting(notes=(), tasks=(), pages=()))
    done = run("--json", "duty", "hand-off", "beth", "Bed 4 first").json
    assert done == {"to": "beth", "offered": ["blood"], "kept": ["letter"], "pages": 2}
    assert "letter" in run("duty", "hand-off", "beth").out
    assert run("duty", "take-over", "--look").status == 0
    assert asked == [("beth", "Shift change", "Bed 4 first"), ("beth", "Shift change", "")]
    assert "Nothing waits" in run("duty", "take-over").out
    assert asked[-1] == ()


def test_where_no_role_has_a_plan_that_is_said(ward: Any, run: Run) -> None:
    ward.on_call, ward.holders = Configuration(), {}
    for command in ("coverage", "print"):
        assert "There is no role with a plan." in run("admin", "oncall", command).out
