"""What a soak judges by: each thing that may go wrong is found."""

from __future__ import annotations

import os
import secrets
import subprocess
from pathlib import Path

import pytest

from soak.invariant import Seen, files_with, is_in_memory, judge, seen_in


def seen(tag: str, *, text: str = "", own: bool = False, archived: bool = True) -> Seen:
    return Seen(tag=tag, text=text or f"said {tag}", own=own, archived=archived)


WELL = {"anna": [seen("1"), seen("2")], "ben": [seen("1"), seen("2")]}


def judged(threads: dict[str, list[Seen]]) -> list[str]:
    return judge(threads, sure=["1", "2"], unsure=["3"], stays=["anna", "ben"])


def test_a_conversation_that_all_have_alike_is_well() -> None:
    assert judged(WELL) == []


@pytest.mark.parametrize(
    "thread",
    [
        pytest.param([seen("1")], id="one is lost"),
        pytest.param([], id="all are lost"),
        pytest.param([seen("2"), seen("1")], id="another order"),
        pytest.param([seen("1"), seen("2"), seen("2")], id="one is shown twice"),
        pytest.param([seen("1"), seen("2", text="else")], id="other words"),
        pytest.param([seen("1"), seen("2", own=True, archived=False)], id="no proof"),
        pytest.param([seen("1"), seen("2"), seen("3")], id="one that others lack"),
    ],
)
def test_what_one_device_has_otherwise_is_found(thread: list[Seen]) -> None:
    assert judged({**WELL, "ben": thread}) != []


def test_who_comes_and_goes_may_lack_what_was_said_meanwhile_but_not_its_order() -> None:
    assert judged({**WELL, "ines": [seen("2")]}) == []
    assert judged({**WELL, "ines": [seen("2"), seen("1")]}) != []


def test_what_may_have_been_taken_may_be_nowhere_or_everywhere() -> None:
    everywhere = {user: [*thread, seen("3")] for user, thread in WELL.items()}
    assert judged(everywhere) == []


def test_a_message_is_known_by_its_tag_and_what_has_none_is_left_out() -> None:
    shown = [
        {"text": "Thank you canary-ab-12.", "own": True, "archived": False},
        {"text": "ben was added", "own": False, "archived": True},
    ]
    assert [one.tag for one in seen_in(shown, "canary-ab")] == ["canary-ab-12."]


def test_a_text_on_a_disk_is_found(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\0canary-ab\0")
    (tmp_path / "b").write_bytes(b"canary-a")
    assert files_with(tmp_path, "canary-ab") == ["a"]


def test_a_text_in_a_processs_memory_is_found_there_and_not_in_anothers() -> None:
    kept = f"canary-{secrets.token_hex(8)}"
    assert is_in_memory(os.getpid(), kept)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as other:
        assert not is_in_memory(other.pid, kept)
