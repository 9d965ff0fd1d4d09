"""The review program: cases, searches, the screen, exports; and that all of it is on record."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyrage
import pytest
from textual.widgets import DataTable, Input, Static
from typer.testing import CliRunner

from archive import review_program
from archive.batch import Entry
from archive.index import Place
from archive.opening_records import View
from archive.opening_site import Site, recorded_trust
from archive.record import RecordType
from archive.review_course import history
from archive.review_screen import ReviewScreen
from protocol.oncall.page_event import Cause, PageEvent
from protocol.opening import Purpose
from tests.archive.officers import WARD, Archive, acknowledge, read_through, text
from tests.protocol.oncall.test_page_event import state
from tests.protocol.oncall.ward import NIGHT

CANARY = "canary-of-the-ward-0451"


def site_of(archive: Archive) -> Site:
    return Site(
        data=archive.directory,
        store=archive.log.store,
        desk=archive.desk,
        sessions=archive.sessions,
        root=archive.root,
        policy=archive.policy,
        officers=archive.staffing,
    )


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Archive]:
    archive = Archive(tmp_path)
    archive.begin()
    ward = archive.talk(WARD)
    archive.say(ward, text(f"bp 90/60 {CANARY}"))
    archive.say(ward, text("[b]on my way[/b]"), who="listener")
    archive.say(ward, read_through("alice/phone", 1), who="listener")
    archive.say(ward, acknowledge("alice/phone", 1), who="listener")
    archive.tick()

    @contextmanager
    def site(_: Path) -> Iterator[Site]:
        yield site_of(archive)

    def recorder_works(_: float) -> None:
        archive.take_up()
        archive.witness()

    monkeypatch.setattr(review_program, "opened_site", site)
    monkeypatch.setattr(review_program, "now_ms", lambda: archive.now_ms)
    monkeypatch.setattr("archive.review_program.time.sleep", recorder_works)
    yield archive
    archive.close()


def run(*arguments: str, fails: bool = False) -> str:
    found = CliRunner().invoke(review_program.app, list(arguments))
    assert (found.exit_code != 0) is fails, found.output
    return found.output


def answers(*arguments: str) -> dict[str, Any]:
    """Return what each line of a scripted review answers."""
    told: dict[str, Any] = {}
    for line in run(*arguments, "--json").splitlines():
        told.update(json.loads(line))
    return told


def test_the_recorded_certificates_are_whom_a_review_believes(archive: Archive) -> None:
    trust = recorded_trust(archive.log.store, archive.root)
    for device in (archive.alice, archive.devices["olga"]):
        assert trust.devices[device.identity.fingerprint] == device.identity


def test_a_session_is_begun_and_a_case_is_followed_to_its_end(archive: Archive) -> None:
    assert "waits for a request" in run("begin")
    key = archive.desk.waiting_session()
    assert key is not None
    request = archive.ask(archive.scope(WARD), session=key)
    (case,) = json.loads(run("cases", "--json"))
    assert (case["request"], case["standing"]) == (request.hex(), "waits for approvals")
    assert "refused" in run("open", request.hex()[:12], "--json", fails=True)
    archive.approve(request, "olga", "omar", "otto")
    archive.release(request, "olga", "omar", "otto")
    (case,) = json.loads(run("cases", "--json"))
    assert (case["standing"], case["released"]) == ("approved", ["olga", "omar", "otto"])
    assert answers("open", request.hex()[:12])["summary"]["lines"] == 4
    run("end", request.hex()[:12])
    (case,) = json.loads(run("cases", "--json"))
    assert (case["standing"], case["ended"]) == ("ended: its session's key is destroyed", True)
    assert "approved" not in run("cases")
    assert "ended" in run("open", request.hex()[:12], "--json", fails=True)


def test_a_scripted_review_answers_and_each_view_is_recorded(archive: Archive) -> None:
    request = archive.opened(archive.scope(WARD))
    first = answers("open", request.hex(), "--timeline")["timeline"][0]
    told = answers(
        "open",
        request.hex(),
        "--search",
        "canary",
        "--participants",
        "--course",
        str(first["index"]),
        "--context",
        str(first["index"]),
    )
    assert [line["index"] for line in told["lines"]] == [first["index"]]
    assert [one["kind"] for one in told["course"]["delivery"]] == ["read", "acknowledgement"]
    assert told["members"][0]["members"] == ["alice/phone", "archive/recorder", "bob/desk"]
    assert [one["sender"] for one in told["participants"]] == ["alice/phone", "bob/desk"]
    assert len(told["context"]) == 4
    archive.take_up()
    views = [
        View.decode(archive.log.body(index))
        for index in range(archive.log.size)
        if archive.log.read(index).type is RecordType.VIEW
    ]
    assert {view.what for view in views} >= {"timeline", "search", "participants", "course"}
    assert {view.request for view in views} == {request}
    assert "canary" in {view.detail for view in views}


def test_an_export_is_written_sealed(archive: Archive, tmp_path: Path) -> None:
    request = archive.opened(archive.scope(WARD))
    identity = pyrage.x25519.Identity.generate()
    out = tmp_path / "case.age"
    to = str(identity.to_public())
    told = answers("export", request.hex(), "--to", to, "--out", str(out))
    assert told["messages"] == 4
    assert CANARY.encode() in pyrage.decrypt(out.read_bytes(), [identity])
    run("export", request.hex(), "--to", to, "--out", str(out), fails=True)
    assert "age key" in run("export", request.hex(), "--to", "x", "--out", "y", fails=True)


def test_segments_are_shared_anew_by_command(archive: Archive) -> None:
    request = archive.opened(archive.scope(WARD), purpose=Purpose.RESHARE)
    assert "1 segments are shared anew" in run("reshare", request.hex())
    assert answers("open", archive.opened(archive.scope(WARD)).hex())["summary"]["lines"] == 4


def test_the_officers_health_is_an_exit_status(archive: Archive) -> None:
    assert json.loads(run("health", "--json", fails=True))["alarm"]
    for name, officer in archive.officers.items():
        archive.post(name, officer.prove_liveness(now_ms=archive.now_ms))
    assert not json.loads(run("health", "--json"))["alarm"]


@pytest.mark.parametrize("name", ["ff", ""])
def test_a_request_is_named_by_its_own_beginning(archive: Archive, name: str) -> None:
    archive.opened(archive.scope(WARD))
    archive.opened(archive.scope(WARD), names=("otto", "oona", "odin"))
    assert "named by" in run("open", name + "0" * (62 if name else 0), fails=True)


@contextmanager
def screen(archive: Archive) -> Iterator[ReviewScreen]:
    request = archive.opened(archive.scope(WARD))
    with review_program.opened_scope(site_of(archive), request.hex()) as scope:
        yield ReviewScreen(scope)


async def test_the_screen_shows_searches_and_tells_the_course(archive: Archive) -> None:
    with screen(archive) as app:
        async with app.run_test(size=(120, 30)) as pilot:
            table = app.query_one("#lines", DataTable)
            detail = app.query_one("#detail", Static)
            assert table.row_count == 4
            await pilot.pause()
            assert CANARY in str(detail.content)
            await pilot.press("d")
            assert "acknowledgement" in str(detail.content)
            await pilot.press("p")
            assert "archive/recorder" in str(detail.content)
            await pilot.press("slash")
            app.query_one("#search", Input).value = "way"
            await pilot.press("enter")
            await pilot.pause()
            assert table.row_count == 1
            # What people wrote is shown, not obeyed.
            assert "[b]on my way[/b]" in str(detail.content)
            await pilot.press("c")
            assert table.row_count == 4
            await pilot.press("t")
            assert table.row_count == 4
            await pilot.press("n")
            assert table.row_count == 4
            await pilot.press("q")


def test_the_course_of_a_page_stands_beside_its_messages(archive: Archive) -> None:
    event = PageEvent(cause=Cause.ANSWER, at_ms=NIGHT, state=state(), statement=b"signed")
    bodies = (event.encode(), b"of a newer program")
    for number, body in enumerate(bodies):
        entry = Entry(type=RecordType.ESCALATION, body=body, bucket=b"b", group_id=WARD, epoch=1)
        with archive.log.recording([entry], now_ms=archive.now_ms) as recorded:
            place = Place(
                index=recorded.indices[0],
                type=RecordType.ESCALATION,
                epoch=1,
                sequence=100 + number,
                sent_ms=archive.now_ms,
            )
            archive.index.add_places({WARD: [place]})
    told = history(archive.log.store, WARD, from_ms=0, until_ms=archive.now_ms + 1)
    assert [one["kind"] for one in told] == ["page", "page"]
    assert told[0]["fields"]["cause"] == "answer"
    assert told[1]["fields"] == bodies[1].hex()
