"""Commands: what they do, what they print for people and for programs, how they end."""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from client.errors import NotAllowedError, NotOutError
from client.followed import Cause
from client.messages import MessageKey, PersonState, State
from client.views import Change, ChangeKind, Trouble
from client.words import ConversationId, ConversationType, UserName
from client_cli.addressing import key_text
from client_cli.output import Exit
from client_cli.program import hoisted
from client_cli.troubles import WORDS
from crypto.note import SignatureType, SignerKey
from protocol.policy import Action
from protocol.report import Check, Report
from tests.client_cli.conftest import Run
from tests.client_cli.fake_device import DIRECT, WARD, FakeDevice

CANARY = "Potassium 6.1, bed seven"


def test_a_message_is_sent_to_a_person_by_user_name(device: FakeDevice, run: Run) -> None:
    ended = run("send", "beth", CANARY, "--json")
    assert ended.status == Exit.DONE
    assert ended.json["text"] == CANARY
    assert ended.json["state"] == "stored"
    assert [shown.text for shown in device.threads[DIRECT]] == [CANARY]
    assert device.closed


def test_a_direct_conversation_is_begun_where_there_is_none(device: FakeDevice, run: Run) -> None:
    assert run("send", "alice", "Hello").status == Exit.DONE
    assert len(device.threads) == 3


def test_a_message_is_read_from_a_pipe(
    device: FakeDevice, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("line one\nline two\n"))
    assert run("send", "Ward 4").status == Exit.DONE
    assert device.threads[WARD][0].text == "line one\nline two"


def test_nothing_is_sent_of_an_empty_pipe(
    device: FakeDevice, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("  \n"))
    ended = run("--json", "send", "Ward 4")
    assert (ended.status, ended.error["error"]) == (Exit.USAGE, "nothing_said")
    assert device.threads[WARD] == []


def test_priority_and_the_wish_for_an_acknowledgement_go_with_it(
    device: FakeDevice, run: Run
) -> None:
    run("send", "ward 4", "Crash call", "-p", "stat", "--ack", "--wait", "acknowledged")
    (shown,) = device.threads[WARD]
    assert (shown.priority.name, shown.acknowledgement_asked) == ("STAT", True)


def test_a_sender_who_waits_in_vain_is_told_by_the_status(device: FakeDevice, run: Run) -> None:
    device.reaches = PersonState.DELIVERED
    ended = run("--json", "send", "beth", "Now", "--wait", "read", "--timeout", "0.2")
    assert (ended.status, ended.error["error"]) == (Exit.UNDELIVERED, "undelivered")
    assert device.threads[DIRECT][0].state is State.STORED


def test_without_the_relay_sending_says_that_nothing_is_lost(device: FakeDevice, run: Run) -> None:
    device.connects = False
    ended = run("send", "beth", CANARY)
    assert ended.status == Exit.UNREACHABLE
    assert CANARY not in ended.err
    assert "What you sent is kept on this device" in ended.err
    assert [shown.text for shown in device.threads[DIRECT]] == [CANARY]


def test_without_the_relay_nothing_is_said_to_be_kept_that_is_not(
    device: FakeDevice, run: Run
) -> None:
    device.connects = False
    for command in (("send", "carol", CANARY), ("start", "Ward 9", "beth"), ("leave", "Ward 4")):
        ended = run("--json", *command)
        assert (ended.status, ended.error["error"]) == (Exit.UNREACHABLE, "not_connected")
        assert "NOT done" in ended.error["text"]
    assert device.threads.keys() == {WARD, DIRECT}


def test_a_full_disk_is_said_by_the_status_in_words_too(
    device: FakeDevice, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "DISK FULL" not in run("status").out
    now = replace(device.status, disk_full=True)
    monkeypatch.setattr(FakeDevice, "status", property(lambda _: now))
    assert "DISK FULL: nothing new is kept." in run("status").out


def test_what_a_role_may_not_is_said_in_words_and_by_the_status(
    device: FakeDevice, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "may not" not in run("status").out
    device.rights.denied = {Action.SEND, Action.VIEW}
    assert "your role may not: send, view" in run("status").out
    assert run("--json", "status").json["denied"] == ["send", "view"]
    for words in (("read", "Ward 4"), ("search", "dose")):
        ended = run(*words)
        assert ended.status == Exit.REFUSED
        assert "Your role may not read messages. Ask your administrator." in ended.err
    monkeypatch.setattr(FakeDevice, "send", refusing(NotAllowedError(Action.SEND)))
    ended = run("--json", "send", "Ward 4", CANARY)
    assert (ended.status, ended.error["error"]) == (Exit.REFUSED, "not_allowed")
    assert ended.error["right"] == "send"


def refusing(error: Exception) -> Callable[..., Awaitable[None]]:
    async def refuse(*_: object, **__: object) -> None:
        raise error

    return refuse


def test_reading_serves_without_the_relay_and_says_so(device: FakeDevice, run: Run) -> None:
    run("send", "Ward 4", CANARY)
    device.connects = False
    ended = run("--json", "read", "Ward 4")
    assert ended.status == Exit.DONE
    assert [message["text"] for message in ended.json["messages"]] == [CANARY]
    assert "No connection" in ended.err
    assert run("--offline", "read", "Ward 4").err == ""


def test_reading_tells_the_senders_unless_it_is_not_to(device: FakeDevice, run: Run) -> None:
    run("send", "Ward 4", "one")
    run("read", "Ward 4", "--keep-unread")
    assert device.read_through == {}
    run("read", "Ward 4")
    assert device.read_through == {WARD: 1}


def test_a_conversation_is_found_by_title_number_or_person(device: FakeDevice, run: Run) -> None:
    for name in ("WARD 4", WARD.hex()[:8], WARD.hex()):
        assert run("--json", "members", name).json["members"][0]["user"] == "ada"
    assert len(run("--json", "members", "beth").json["members"]) == 3


def test_an_unknown_name_suggests_those_that_are_like_it(device: FakeDevice, run: Run) -> None:
    ended = run("send", "bethany", "Hello")
    assert ended.status == Exit.UNKNOWN
    assert "beth (Beth Berg, RN)" in ended.err


def test_a_title_of_two_conversations_asks_which(device: FakeDevice, run: Run) -> None:
    run("start", "Ward 4", "beth")
    ended = run("--json", "read", "Ward 4")
    assert (ended.status, ended.error["error"]) == (Exit.UNKNOWN, "ambiguous_conversation")


def test_the_archive_is_shown_among_the_members(device: FakeDevice, run: Run) -> None:
    members = run("--json", "members", "Ward 4").json["members"]
    assert [one["user"] for one in members if one["archive"]] == ["archive"]


def test_messages_are_named_as_they_are_printed(device: FakeDevice, run: Run) -> None:
    sent = run("--json", "send", "Ward 4", "one").json["key"]
    assert sent == key_text(device.threads[WARD][0].key)
    assert run("ack", sent).status == Exit.DONE
    assert device.changes[-1].messages == (device.threads[WARD][0].key,)
    assert run("recall", sent).status == Exit.DONE
    assert device.threads[WARD][0].state is State.RETRACTED


@pytest.mark.parametrize(
    "name", ["", "x", "07070707", "07070707:ada/desk:99", "07070707:ada/desk:x"]
)
def test_a_message_that_is_not_there_is_said_so(run: Run, name: str) -> None:
    assert run("ack", "--", name).status == Exit.UNKNOWN


def test_a_reply_names_what_it_answers(device: FakeDevice, run: Run) -> None:
    first = run("--json", "send", "Ward 4", "one").json["key"]
    run("send", "Ward 4", "two", "--reply-to", first)
    content = device.threads[WARD][1].content
    assert getattr(content, "to").message_id == 1  # noqa: B009 - any content


def test_search_looks_in_one_conversation_or_in_all(device: FakeDevice, run: Run) -> None:
    run("send", "Ward 4", CANARY)
    run("send", "beth", CANARY)
    assert len(run("--json", "search", "Potassium").json["messages"]) == 2
    assert len(run("--json", "search", "Potassium", "--in", "Ward 4").json["messages"]) == 1
    assert run("search", "nothing").out == "No message.\n"


def test_people_are_found_whatever_the_case(run: Run) -> None:
    assert [one["user"] for one in run("--json", "people", "BETH").json["people"]] == ["beth"]


def test_members_are_added_and_removed_by_name(device: FakeDevice, run: Run) -> None:
    assert run("add", "Ward 4", "bob").status == Exit.DONE
    assert run("remove", "Ward 4", "alice", "Beth Berg, RN").status == Exit.DONE
    assert device.people_in[WARD] == ["ada", "bob"]


def test_who_leaves_a_conversation_is_asked_before(
    device: FakeDevice, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("n\ny\n"))
    assert run("leave", "Ward 4").status != Exit.DONE
    assert "ada" in device.people_in[WARD]
    assert run("leave", "Ward 4").status == Exit.DONE
    assert "ada" not in device.people_in[WARD]
    run("start", "Ward 5", "beth")
    assert run("--json", "leave", "Ward 5").status == Exit.DONE


def test_a_file_is_sent_and_fetched_and_never_overwrites_another(
    device: FakeDevice, run: Run, tmp_path: Path
) -> None:
    there = tmp_path / "scan.txt"
    there.write_text("x")
    key = run("--json", "attach", "Ward 4", str(there)).json["key"]
    assert run("fetch", key, str(there)).status == Exit.USAGE
    assert there.read_text() == "x"
    assert run("fetch", key, str(tmp_path / "new")).status == Exit.DONE
    assert (tmp_path / "new").read_bytes() == b"content"


def test_following_prints_each_message_once_and_ends_at_the_count(
    device: FakeDevice, run: Run
) -> None:
    for text in ("one", "two"):
        run("send", "Ward 4", text)
    run("send", "beth", "elsewhere")
    keys = [shown.key for shown in (*device.threads[WARD], *device.threads[DIRECT])]
    device.changes = [
        Change(kind=ChangeKind.STATUS),
        Change(kind=ChangeKind.MESSAGES, conversation=WARD, messages=(keys[0],)),
        Change(kind=ChangeKind.MESSAGES, conversation=DIRECT, messages=(keys[2],)),
        Change(kind=ChangeKind.MESSAGES, conversation=WARD, messages=(keys[0], keys[1])),
    ]
    assert [line[-3:] for line in run("follow", "Ward 4", "-c", "2").out.splitlines()] == [
        "one",
        "two",
    ]


def test_what_could_command_a_terminal_is_not_printed(device: FakeDevice, run: Run) -> None:
    run("send", "Ward 4", "\x1b]0;owned\x07 bell")
    assert "\x1b" not in run("read", "Ward 4").out
    assert "\x07" not in run("read", "Ward 4").out


@pytest.mark.parametrize("broken", ["archive_is_in", "connects", "faults"])
def test_selfcheck_fails_where_something_is_wrong(
    device: FakeDevice, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    profile = type("Profile", (), {"directory": tmp_path})()
    tmp_path.chmod(0o700)
    monkeypatch.setattr("client_cli.checking.choose", lambda _options: profile)
    monkeypatch.setattr("client_cli.checking.now_ms", lambda: 1_800_000_000_123)
    assert run("selfcheck").status == Exit.DONE
    setattr(device, broken, 3 if broken == "faults" else False)
    ended = run("--json", "selfcheck")
    assert ended.status == Exit.CHECK_FAILED
    assert sum(not check["holds"] for check in ended.json["checks"]) == 1


def test_selfcheck_finds_files_that_others_can_read(
    device: FakeDevice, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = type("Profile", (), {"directory": tmp_path})()
    tmp_path.chmod(0o755)
    monkeypatch.setattr("client_cli.checking.choose", lambda _options: profile)
    monkeypatch.setattr("client_cli.checking.now_ms", lambda: 1_800_000_000_123)
    assert run("selfcheck").status == Exit.CHECK_FAILED


def test_a_report_is_shown_where_the_key_signed_it_and_refused_where_it_did_not(
    run: Run, tmp_path: Path
) -> None:
    keys = [SignerKey.generate("wardline-relay", SignatureType.ED25519) for _ in range(2)]
    own, other = (key.verifier.encode() for key in keys)
    file = tmp_path / "report"
    for holds in (True, False):
        check = Check(name="disk", holds=holds, found="1 GB free")
        report = Report(program="wardline-relay", at_ms=1_800_000_000_000, checks=(check,))
        note = report.sign(keys[0]).encode()
        file.write_bytes(note)
        ended = run("--json", "verify-report", str(file), "--key", own)
        assert ended.status == (Exit.DONE if holds else Exit.CHECK_FAILED)
        assert ended.json["checks"] == [{"name": "disk", "holds": holds, "found": "1 GB free"}]
        for data, key in (
            (note, other),
            (note.replace(b"1 GB", b"9 GB"), own),
            (b"", own),
            (note, "none"),
        ):
            file.write_bytes(data)
            ended = run("verify-report", str(file), "--key", key)
            assert (ended.status, ended.out) == (Exit.CHECK_FAILED, "")
    file.unlink()
    assert run("verify-report", str(file), "--key", own).status == Exit.UNKNOWN


@pytest.mark.parametrize(
    ("line", "front"),
    [
        (["send", "ann", "hi", "--json"], ["--json"]),
        (["send", "--as", "ann", "bob", "hi"], ["--as", "ann"]),
        (["send", "--as=ann", "bob"], ["--as=ann"]),
        (["--pin-file", "p", "read", "--offline", "x"], ["--pin-file", "p", "--offline"]),
        (["send", "ann", "--", "--json"], []),
        (["read", "--as"], ["--as"]),
    ],
)
def test_options_of_every_command_stand_anywhere(line: list[str], front: list[str]) -> None:
    moved = hoisted(line)
    assert moved[: len(front)] == front
    assert sorted(moved) == sorted(line)


def test_a_mistyped_command_is_status_2_and_names_no_secret(run: Run) -> None:
    assert run("sned", "x").status == Exit.USAGE
    assert run("send").status == Exit.USAGE
    assert run("send", "beth", "x", "--priority", "panic").status == Exit.USAGE


def test_a_fault_of_the_program_shows_class_and_place_alone(
    device: FakeDevice, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_self: object) -> None:
        raise KeyError(CANARY)

    monkeypatch.setattr(FakeDevice, "conversations", broken)
    ended = run("--json", "conversations")
    assert (ended.status, ended.error["error"]) == (Exit.FAULT, "fault")
    assert CANARY not in ended.err
    assert ended.error["kind"] == "KeyError"


def test_a_page_of_a_later_step_is_not_printed_and_does_not_end_following(
    device: FakeDevice, run: Run
) -> None:
    run("send", "Ward 4", "one")
    key = device.threads[WARD][0].key
    hidden = ConversationId(bytes(32))
    lost = MessageKey(conversation=hidden, sender=device.me, message_id=1)
    device.changes = [
        Change(kind=ChangeKind.MESSAGES, conversation=hidden, messages=(lost,)),
        Change(kind=ChangeKind.MESSAGES, conversation=WARD, messages=(key,)),
    ]
    assert run("follow", "-c", "1").out.endswith("one\n")


def test_a_sender_is_told_who_is_off_duty_and_who_covers(device: FakeDevice, run: Run) -> None:
    device.duty.away = {UserName("beth"): UserName("alice")}
    told = "Beth Berg, RN is off duty"
    ended = run("send", "beth", CANARY)
    assert ended.status == Exit.DONE
    assert told in ended.err
    assert "Covered by" in ended.err
    (caution,) = run("--json", "send", "beth", CANARY).json["cautions"]
    assert caution.startswith(told)
    assert run("send", "alice", CANARY).err == ""


def test_what_did_not_come_as_it_should_is_told_one_by_one(device: FakeDevice, run: Run) -> None:
    device.troubles = (
        Trouble(log=WARD, cause="HOLE", at_ms=0),
        Trouble(log=b"?" * 32, cause="FORGED", at_ms=0),
    )
    device.faults = 3
    told = run("status").out
    assert "faults: 3\n" in told
    assert "Ward 4: Something that was sent never came. Ask who wrote then to say it" in told
    assert "outside conversations: Something came in this device's name" in told
    assert "and 1 before these" in told
    found = run("--json", "status").json
    assert [one["cause"] for one in found["troubles"]] == ["hole", "forged"]
    assert "lines" not in found


def test_every_cause_has_its_words() -> None:
    assert set(WORDS) == {cause.name for cause in Cause}


def test_what_waits_although_there_is_a_connection_is_said_so(
    device: FakeDevice, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def waits(_timeout_s: float) -> None:
        raise NotOutError

    monkeypatch.setattr(device, "settled", waits)
    told = run("send", "beth", CANARY)
    assert told.status == Exit.UNREACHABLE
    assert told.err.startswith("There is a connection, but not all has gone out yet")
    assert run("--json", "send", "beth", CANARY).error["error"] == "not_out"
    device.connects = False
    assert "No connection to the relay. What you sent is kept" in run("send", "beth", CANARY).err


def test_of_several_conversations_with_a_person_the_newest_is_meant(
    device: FakeDevice, run: Run
) -> None:
    other = ConversationId(bytes([3]) * 32)
    device._begin(other, ConversationType.DIRECT, ["ada", "beth"], "Beth Berg, RN")
    for name in ("beth", "Beth Berg, RN"):
        assert run("send", name, CANARY).status == Exit.DONE
    # The device gives them in this order, the newest first.
    assert [len(device.threads[where]) for where in (DIRECT, other)] == [2, 0]


def test_a_message_without_a_file_has_none_to_fetch(
    device: FakeDevice, run: Run, tmp_path: Path
) -> None:
    run("send", "Ward 4", CANARY)
    ended = run("fetch", key_text(device.threads[WARD][0].key), str(tmp_path / "out"))
    assert (ended.status, ended.err) == (Exit.UNKNOWN, "That message carries no file.\n")


def test_more_messages_than_there_can_be_are_no_number_to_read(run: Run) -> None:
    assert run("read", "Ward 4", "-n", "99999999999999999999").status == Exit.USAGE


def test_a_message_that_was_changed_says_since_when_it_says_so(
    device: FakeDevice, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("send", "Ward 4", CANARY)
    (shown,) = device.threads[WARD]
    former = replace(shown, text="Potassium 5.1", until_ms=shown.at_ms + 60_000)
    monkeypatch.setattr(device, "history", lambda _: [former])
    versions = run("--json", "history", key_text(shown.key)).json["versions"]
    assert versions == [
        {"at_ms": shown.at_ms, "text": "Potassium 5.1"},
        {"at_ms": shown.at_ms + 60_000, "text": CANARY},
    ]
