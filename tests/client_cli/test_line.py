"""The line mode: a command has one answer, what happens comes between, and typing is enough."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from client.errors import ClosedError, FullError
from client.views import Change, ChangeKind
from client_cli.line import ANSWERS, LineMode, lines_of
from client_cli.line_words import COMMANDS, parsed, usage
from client_cli.output import CommandError
from protocol.authenticated_data import Priority, Target, TargetKind
from protocol.content import Attachment, Edit, Reaction, ReadBack, Reply, Text
from protocol.errors import Code
from protocol.identifiers import ConversationId, UserName
from protocol.oncall.page_state import Event
from tests.client_cli.fake_ward import (
    ANN,
    BED_7,
    BEN,
    EVA,
    NOW_MS,
    PAGE,
    WITH_BEN,
    FakeWard,
    example_ward,
    stat_page,
)
from tests.protocol import document
from tests.waiting import comes_true

Facts = dict[str, Any]


@pytest.fixture
def ward() -> FakeWard:
    return example_ward()


async def told(ward: FakeWard, lines: Sequence[str], *, as_json: bool = True) -> list[str]:
    """Do lines, and return everything that was written."""
    written: list[str] = []

    async def typed() -> AsyncIterator[str]:
        for line in lines:
            yield line
            await asyncio.sleep(0)

    mode = LineMode(ward, written.append, as_json=as_json, clock=lambda: NOW_MS)
    await mode.run(typed())
    return written


async def asked(ward: FakeWard, *commands: Facts) -> list[Facts]:
    """Do commands, and return their answers."""
    written = await told(ward, [json.dumps(command) for command in commands])
    return [facts for facts in map(json.loads, written) if "answer" in facts]


async def key_of_last(ward: FakeWard) -> str:
    (answer,) = await asked(ward, {"do": "show", "in": "Bed 7", "limit": 1})
    return str(answer["messages"][0]["key"])


async def test_an_empty_list_is_said_in_words(ward: FakeWard) -> None:
    lines = await told(
        ward, ["search nothing-like-that", "directory nobody-like-that"], as_json=False
    )
    assert "No message." in lines
    assert "Nobody like that." in lines
    assert "" not in lines


async def test_every_command_has_exactly_one_answer_under_its_id(ward: FakeWard) -> None:
    answers = await asked(
        ward, {"do": "status", "id": "x"}, {"do": "list"}, {"do": "nonsense"}, {"do": "quit"}
    )
    assert [(one["answer"], one["ok"]) for one in answers] == [
        ("x", True),
        (2, True),
        (3, False),
        (4, True),
    ]
    assert answers[0]["online"] is True
    assert answers[1]["conversations"][0]["title"] == "Bed 7"


@pytest.mark.parametrize("line", ["", "{", "[]", '"x"', "{}", '{"do": 3}', '{"do":"send"}'])
async def test_a_line_that_is_no_command_is_answered_and_stops_nothing(
    ward: FakeWard, line: str
) -> None:
    written = await told(ward, [line, '{"do":"status"}'])
    assert json.loads(written[-1])["ok"] is True


async def test_sending_says_which_message_it_became(ward: FakeWard) -> None:
    (answer,) = await asked(
        ward,
        {"do": "send", "to": "Bed 7", "text": "On my way", "priority": "stat", "ask": True},
    )
    shown = ward.messages(BED_7, limit=1)[0]
    assert shown.content == Text(text="On my way")
    assert (shown.priority, shown.acknowledgement_asked) == (Priority.STAT, True)
    assert answer["message"]["text"] == "On my way"
    assert answer["message"]["state"] == "waiting"


async def test_a_person_without_a_conversation_is_written_to_all_the_same(ward: FakeWard) -> None:
    await asked(ward, {"do": "send", "to": "ben", "text": "a"})
    assert ward.messages(WITH_BEN, limit=1)[0].text == "a"
    (answer,) = await asked(ward, {"do": "send", "to": "eva", "text": "b"})
    assert answer["ok"] is True
    assert any(set(people) == {ANN, EVA} for people in ward.people.values())


async def test_a_refusal_is_a_sentence_and_a_word(ward: FakeWard) -> None:
    ward.refusal = FullError()
    first, second = await asked(
        ward,
        {"do": "send", "to": "Bed 7", "text": "x"},
        {"do": "send", "to": "nobody here", "text": "x"},
    )
    assert (first["ok"], first["kind"]) == (False, "disk_full")
    assert (second["ok"], second["kind"]) == (False, "no_person")


async def test_a_page_is_accepted_and_done(ward: FakeWard) -> None:
    stat_page(ward)
    answers = await asked(
        ward,
        {"do": "wait", "for": "page", "timeout_s": 1},
        {"do": "done"},
        {"do": "accept"},
        {"do": "done"},
        {"do": "wait", "for": "page", "status": "done", "timeout_s": 1},
    )
    assert [one["ok"] for one in answers] == [True, False, True, True, True]
    assert answers[0]["page"]["priority"] == "stat"
    assert [(where, event) for where, event, _, _ in ward.duty.answered] == [
        (PAGE, Event.ACCEPT),
        (PAGE, Event.FINISH),
    ]


async def test_not_mine_says_whose_it_is(ward: FakeWard) -> None:
    stat_page(ward)
    await asked(ward, {"do": "not-mine", "to": "surgeon"})
    assert ward.duty.answered == [(PAGE, Event.NOT_MINE, "surgeon", None)]


async def test_a_message_and_a_page_are_for_who_is_next(ward: FakeWard) -> None:
    answers = await asked(
        ward,
        {"do": "send", "to": BED_7.hex(), "text": "look", "for": "icu-registrar:next"},
        {"do": "page", "role": "surgeon", "text": "come early", "turn": "next"},
        {"do": "page", "role": "surgeon", "text": "come early", "turn": "last"},
    )
    assert [answer["ok"] for answer in answers] == [True, True, False]
    shown = ward.messages(BED_7, limit=1)[-1]
    assert shown.target == Target(kind=TargetKind.NEXT, name="icu-registrar")
    assert ward.duty.turns == [TargetKind.NEXT]


async def test_a_role_is_paged(ward: FakeWard) -> None:
    (answer,) = await asked(ward, {"do": "page", "role": "surgeon", "text": "Bed 7 bleeds"})
    (page,) = ward.duty.sheet
    assert answer["conversation"] == page.conversation.hex()
    assert (page.priority, page.text) == (Priority.STAT, "Bed 7 bleeds")


async def test_messages_are_answered_changed_and_reacted_to(ward: FakeWard) -> None:
    key = await key_of_last(ward)
    await asked(
        ward,
        {"do": "reply", "message": key, "text": "Seen"},
        {"do": "react", "message": key, "mark": "+1"},
        {"do": "do", "message": key, "act": "read_back", "text": "6.9 mmol/l"},
        {"do": "acknowledge", "message": key},
    )
    sent = [line.shown.content for line in ward.lines[BED_7][-2:]]
    assert isinstance(sent[0], Reply)
    assert isinstance(sent[1], ReadBack)
    own = await key_of_last(ward)
    (answer,) = await asked(ward, {"do": "edit", "message": own, "text": "x"})
    assert answer["message"]["kind"] == Edit.__name__
    (answer,) = await asked(ward, {"do": "details", "message": key})
    assert "+1 You" in answer["message"]["notes"]
    assert Reaction.__name__ not in {
        type(line.shown.content).__name__ for line in ward.lines[BED_7]
    }


async def test_what_a_message_does_not_ask_for_is_refused_with_what_it_does(
    ward: FakeWard,
) -> None:
    key = await key_of_last(ward)
    (answer,) = await asked(ward, {"do": "do", "message": key, "act": "close_result"})
    assert answer["kind"] == "not_possible"
    assert "read_back" in answer["error"]


async def test_files_are_sent_and_saved(ward: FakeWard, tmp_path: Path) -> None:
    (answer,) = await asked(ward, {"do": "attach", "to": "Bed 7", "path": "scan.jpg"})
    assert answer["message"]["kind"] == Attachment.__name__
    key = answer["message"]["key"]
    await asked(ward, {"do": "save", "message": key, "path": str(tmp_path / "a")})
    assert (tmp_path / "a").exists()


async def test_people_are_let_in_and_out(ward: FakeWard) -> None:
    await asked(
        ward,
        {"do": "add", "in": "Bed 7", "users": ["eva"]},
        {"do": "remove", "in": "Bed 7", "users": ["carla"]},
    )
    assert ward.people[BED_7] == ["ann", "ben", "dan", "eva"]
    (answer,) = await asked(ward, {"do": "members", "in": "Bed 7"})
    assert [one["user"] for one in answer["members"] if one["is_recorder"]] == ["archive"]


async def test_waiting_is_for_what_held_before_or_comes_in_time(ward: FakeWard) -> None:
    answers = await asked(
        ward,
        {"do": "wait", "for": "online"},
        {"do": "wait", "for": "settled"},
        {"do": "wait", "for": "message", "text": "drink"},
        {"do": "wait", "for": "message", "text": "never said", "timeout_s": 0.05},
        {"do": "wait", "for": "something else"},
    )
    assert [one["ok"] for one in answers] == [True, True, True, False, False]
    assert answers[3]["kind"] == "timeout"


async def test_what_happens_comes_as_events(ward: FakeWard) -> None:
    written: list[str] = []

    async def typed() -> AsyncIterator[str]:
        yield '{"do":"status"}'
        shown = ward.say(BED_7, "ben/phone", "Come!", at_ms=NOW_MS, priority=Priority.STAT)
        assert shown is not None
        ward.tell(Change(kind=ChangeKind.MESSAGES, conversation=BED_7, messages=(shown.key,)))
        stat_page(ward)
        await comes_true(lambda: sum('"event"' in line for line in written) == 2)

    mode = LineMode(ward, written.append, as_json=True, clock=lambda: NOW_MS)
    await mode.run(typed())
    events = [facts for facts in map(json.loads, written) if "event" in facts]
    assert [facts["event"] for facts in events] == ["message", "page"]
    assert events[0]["message"]["priority"] == "stat"
    assert events[0]["message"]["sender"] == "ben/phone"
    assert events[1]["page"]["alerting"] is True


async def test_why_a_device_is_not_let_in_is_said_once(ward: FakeWard) -> None:
    written: list[str] = []
    why = "The same device connected elsewhere."

    async def typed() -> AsyncIterator[str]:
        yield "list"
        for why_not in (ClosedError(Code.REPLACED), ClosedError(Code.REPLACED), None):
            ward.status = replace(ward.status, shut_out=why_not)
            ward.tell(Change(kind=ChangeKind.STATUS))
        ward.status = replace(ward.status, shut_out=ClosedError(Code.REPLACED))
        ward.tell(Change(kind=ChangeKind.STATUS))
        await comes_true(lambda: any(why in line for line in written))
        ward.tell(Change(kind=ChangeKind.STATUS))
        yield "status"

    mode = LineMode(ward, written.append, as_json=False, clock=lambda: NOW_MS)
    await mode.run(typed())
    assert sum(why in line for line in written) == 1


async def test_in_words_it_reads_as_a_screen_reader_would(ward: FakeWard) -> None:
    written = await told(
        ward,
        [
            "list",
            "show 'Bed 7' 4",
            "send --priority urgent Bed\\ 7 On my way",
            "board",
            "devices",
            "xyz",
        ],
        as_json=False,
    )
    text = "\n".join(written)
    assert "Bed 7: 1 unread, URGENT" in text
    assert "Ben Adler [URGENT, please acknowledge]" in text
    assert "= NOT YET READ BACK" in text
    assert "cardiologist: NOBODY until" in text
    assert "; Dan Okafor answers, then Eva Lindqvist" in text
    assert "> Carla Ruiz: Can he drink?" in text
    assert "ann/desk (this one): valid until" in text
    assert "ann/old-phone: NO LONGER VALID" in text
    assert "Carla Ruiz is off duty until" in text
    assert "and gets it then. Covered by Dan Okafor." in text
    assert "Not done: There is no command 'xyz'" in text
    shown = ward.messages(BED_7, limit=1)[0]
    assert (shown.text, shown.priority) == ("On my way", Priority.URGENT)
    assert "\x1b" not in text


async def test_every_command_is_one_that_is_done(ward: FakeWard) -> None:
    (answer,) = await asked(ward, {"do": "help"})
    assert len(answer["lines"]) == len(COMMANDS)
    for name in set(COMMANDS) - set(ANSWERS):
        assert hasattr(LineMode, f"_do_{name.replace('-', '_')}")


@pytest.mark.parametrize("line", ["send ben", "send 'ben", "page --priority", "edit"])
def test_a_command_that_lacks_something_is_told_how_it_goes(line: str) -> None:
    with pytest.raises(CommandError):
        parsed(line, as_json=False)


async def test_lock_and_quit_end_it_and_say_which(ward: FakeWard) -> None:
    async def typed(line: str) -> AsyncIterator[str]:
        yield line
        raise AssertionError

    mode = LineMode(ward, lambda _: None, as_json=False, clock=lambda: NOW_MS)
    assert await mode.run(typed("lock")) is True
    assert await mode.run(typed("quit")) is False


async def test_lines_are_read_until_the_end() -> None:
    waiting = iter(["a\n", "b\n", ""])
    assert [line async for line in lines_of(lambda: next(waiting))] == ["a\n", "b\n"]
    assert BEN in example_ward().people[BED_7]


def test_the_document_has_every_command_and_no_other() -> None:
    page = (document.DOCUMENT.parent / "line-mode.md").read_text()
    in_code = [(f"`{usage(name)}`", form.what) for name, form in COMMANDS.items()]
    assert document.table(page, "Commands") == in_code


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("attach ben /no/such/file", "No such file"),
        ("attach ben ~nobody-of-that-name/x", "home directory"),
        ("mute 'Bed 7' ''", "one person"),
        ("mute --minutes nan 'Bed 7' dan", "minutes is a number"),
        ("show --limit inf 'Bed 7'", "limit is a number"),
    ],
)
async def test_what_cannot_be_done_is_said_and_the_next_line_is_done(
    ward: FakeWard, line: str, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def attach(_where: ConversationId, path: Path, **_more: object) -> None:
        await asyncio.to_thread(path.read_bytes)

    monkeypatch.setattr(ward, "attach", attach)
    lines = await told(ward, [line, "status"], as_json=False)
    (refused,) = (one for one in lines if one.startswith("Not done:"))
    assert word in refused
    assert any(one.startswith("user: ") for one in lines)


@pytest.mark.parametrize(
    "command",
    [
        {"do": "send", "to": 5, "text": "x"},
        {"do": "send", "to": "Bed 7", "text": ["x"]},
        {"do": "send", "to": "Bed 7", "text": "\ud800"},
        {"do": "start", "users": 7},
        {"do": "show", "in": "Bed 7", "limit": {}},
    ],
)
async def test_a_field_of_the_wrong_kind_is_answered_and_stops_nothing(
    ward: FakeWard, command: dict[str, Any]
) -> None:
    first, second = await asked(ward, command, {"do": "status"})
    assert (first["ok"], second["ok"]) == (False, True)
    assert first["kind"] in ("usage", "invalid")


async def test_whoever_begins_a_conversation_hears_who_is_called_nearly_the_same(
    ward: FakeWard,
) -> None:
    everybody = ward.directory()
    twin = next(one for one in everybody if one.user == EVA)
    other = replace(twin, user=UserName("eva2"), name=twin.name.replace("a", "e", 1))
    ward.directory = lambda text="": [*everybody, other]  # type: ignore[method-assign]
    first, again = await asked(
        ward,
        {"do": "send", "to": "eva", "text": "b"},
        {"do": "send", "to": "eva", "text": "c"},
    )
    assert any(f"and not {other.name}" in line for line in first["cautions"])
    assert not any("and not" in line for line in again["cautions"])
