"""Whatever is killed when: what left the device is on its disk, once, and no key is used twice.

``WARDLINE_KILLS`` says at how many of each kind of call the program is killed; 0 kills it at every
one; without it at a few.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from client.messages import State
from client.profile import create_profile, profiles
from client.store import Store
from crypto.errors import KeyUsedError
from crypto.mls import ApplicationMessage, Group
from crypto.pin import PinParameters, stretch
from tests.client.crash.driver import MESSAGES, PURGED_MS, bob_of, prepare, text_of
from tests.client.ward import ANN, KEY, LOG, PATH, WARD, hear, saved, send
from tests.crypto.mls.clients import accept
from tests.shared import ROOT

STRACE = shutil.which("strace")
KILLS = int(os.environ.get("WARDLINE_KILLS", "5"))
ROUNDS = 6
CALLS = ("pwrite64", "fsync", "ftruncate")
MODULE = "tests.client.crash.driver"
WIPING = "tests.client.crash.wiping"

pytestmark = pytest.mark.skipif(
    STRACE is None and "CI" not in os.environ,
    reason="strace is not installed: no process is killed",
)

Line = dict[str, Any]


def traced(options: list[str], program: list[str]) -> bytes:
    """Run a module under strace; return what it wrote."""
    assert STRACE is not None
    done = subprocess.run(
        [STRACE, "-f", *options, sys.executable, "-m", *program],
        cwd=ROOT,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        check=False,
        timeout=120,
    )
    return done.stdout


def killing(call: str, at: int) -> list[str]:
    """Return the options that end a program at its n-th call: strace counts each kind apart."""
    return ["-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={at}", "-o", "/dev/null"]


def driven(directory: Path, options: list[str]) -> list[Line]:
    """Run the driver under strace; return what left the device."""
    output = traced(options, [MODULE, str(directory), str(ROUNDS)])
    return [json.loads(line) for line in output.split(b"\n")[:-1]]


def examine(directory: Path, lines: list[Line]) -> None:
    """Compare the files with what left the device, and go on from them."""
    store = Store.open(directory / PATH, KEY)
    store.verify()
    shown = [text for line in lines if line["what"] == "shown" for text in line["texts"]]
    through = max((line["through"] for line in lines if line["what"] == "acknowledged"), default=0)
    sent = {line["id"]: bytes.fromhex(line["sealed"]) for line in lines if line["what"] == "sent"}
    accepted = {line["id"] for line in lines if line["what"] == "accepted"}
    cursor = store.cursor(LOG)
    assert len(shown) <= cursor <= len(shown) + 1
    assert through <= cursor
    there_is_each_message_once(store, shown, cursor)
    repeats_are_the_same(store, sent, accepted)
    no_key_is_used_again(directory, store, sent, cursor)
    store.close()


def there_is_each_message_once(store: Store, shown: list[str], cursor: int) -> None:
    """What was shown is there unless it was purged, and nothing twice."""
    page = store.messages.page(WARD, limit=1_000)
    texts = [message.content.text for message in page if message.key.sender != ANN]
    assert len(set(texts)) == len(texts)
    assert shown == [text_of(number) for number in range(1, len(shown) + 1)]
    lasting = {text_of(number) for number in range(1, cursor + 1) if number % 3}
    assert lasting <= set(texts) <= {text_of(number) for number in range(1, cursor + 1)}
    assert all(store.messages.search(text) for text in texts)
    store.purge(PURGED_MS)
    page = store.messages.page(WARD, limit=1_000)
    assert {message.content.text for message in page if message.key.sender != ANN} == lasting


def repeats_are_the_same(store: Store, sent: dict[int, bytes], accepted: set[int]) -> None:
    """What went out goes out again with the same bytes, and all that was written waits or went."""
    last = max(sent, default=0)
    waiting = {one.message_id: one.sealed for one in store.outbox.to_send(last)}
    assert {number: waiting[number] for number in waiting if number in sent} == {
        number: sealed for number, sealed in sent.items() if number in waiting
    }
    assert not accepted & waiting.keys()
    mine = [m for m in store.messages.page(WARD, limit=1_000) if m.key.sender == ANN]
    assert sorted(m.key.message_id for m in mine) == list(range(1, store.outbox.last_id + 1))
    assert {m.key.message_id for m in mine if m.state is State.WAITING} == set(waiting)
    assert sent.keys() <= {m.key.message_id for m in mine}


def no_key_is_used_again(
    directory: Path, store: Store, sent: dict[int, bytes], cursor: int
) -> None:
    """Go on: Bob reads all that ever left, each under a generation of its own."""
    messages = [bytes.fromhex(text) for text in json.loads((directory / MESSAGES).read_text())]
    for message in messages[:cursor]:
        with pytest.raises(KeyUsedError):
            saved(store).process(message, authenticate=accept)
    for number in range(cursor, ROUNDS):
        hear(store, messages[number], number + 1)
    send(store, "after the crash")
    again = {one.message_id: one.sealed for one in store.outbox.to_send(max(sent, default=0))}
    generations = [generation(bob_of(directory), wire) for wire in {**sent, **again}.values()]
    assert len(set(generations)) == len(generations)
    assert store.messages.page(WARD, limit=1)[0].content.text == "after the crash"


def generation(bob: Group, sealed: bytes) -> int:
    _, received = bob.process(sealed, authenticate=accept)
    assert isinstance(received, ApplicationMessage)
    return received.generation


def test_no_kill_at_a_write_or_sync_loses_repeats_or_reuses_anything(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    prepare(whole, ROUNDS)
    first = tmp_path / "first"
    shutil.copytree(whole, first)
    trace = tmp_path / "trace"
    lines = driven(first, ["-e", f"trace={','.join(CALLS)}", "-o", str(trace)])
    assert lines[-1]["what"] == "closed"
    examine(first, lines)
    for call in CALLS:
        calls = len(re.findall(rf"^\d+ +{call}\(", trace.read_text(), re.MULTILINE))
        assert calls > 20
        killed = 0
        for at in range(1, calls + 1, max(1, calls // KILLS) if KILLS else 1):
            files = tmp_path / "killed"
            shutil.copytree(whole, files)
            lines = driven(files, killing(call, at))
            killed += not lines or lines[-1]["what"] != "closed"
            examine(files, lines)
            shutil.rmtree(files)
        assert killed > 1


@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
@pytest.mark.parametrize("call", ["pwrite64", "fsync"])
def test_a_disk_that_fails_ends_the_work_and_what_left_is_there(
    tmp_path: Path, call: str, error: str
) -> None:
    for at in (3, 20, 41):
        files = tmp_path / f"{call}{at}"
        files.mkdir()
        prepare(files, ROUNDS)
        inject = f"inject={call}:error={error}:when={at}+"
        lines = driven(files, ["-e", f"trace={call}", "-e", inject, "-o", "/dev/null"])
        assert not lines or lines[-1]["what"] != "closed"
        examine(files, lines)


def test_a_disk_that_is_full_for_a_while_costs_nothing(tmp_path: Path) -> None:
    went_on = ended = 0
    for at in range(3, 120, max(1, 120 // KILLS) if KILLS else 1):
        files = tmp_path / f"full{at}"
        files.mkdir()
        prepare(files, ROUNDS)
        inject = f"inject=pwrite64:error=ENOSPC:when={at}..{at + 1}"
        lines = driven(files, ["-e", "trace=pwrite64", "-e", inject, "-o", "/dev/null"])
        whole = bool(lines) and lines[-1]["what"] == "closed"
        went_on += whole and {"what": "full"} in lines
        ended += not whole
        examine(files, lines)
    # It goes on where the change found no room, and ends where the change is in the log already.
    assert went_on
    # A few places need not have one of the second sort among them.
    assert ended or KILLS


@pytest.mark.parametrize(
    ("call", "least"), [("write", 4), ("fsync", 8), ("unlink", 4), ("rename", 1), ("rmdir", 2)]
)
def test_a_wipe_that_is_killed_at_any_call_is_finished_by_the_next_start(
    tmp_path: Path, call: str, least: int
) -> None:
    parameters = PinParameters.minimum_for_tests()
    key, share = stretch("481516", parameters), bytes(32)
    whole, root = tmp_path / "whole", tmp_path / "people"
    create_profile(whole, parameters=parameters, key=key, share=share, connection=b"key")
    at, ended = 0, False
    while not ended:
        at += 1
        shutil.copytree(whole, root)
        ended = traced(killing(call, at), [WIPING, str(root)]) == b"ended"
        for profile in profiles(root):
            names = {path.name for path in profile.directory.iterdir()}
            assert profile.wiping or {"header", "store.db", "connection", "files"} <= names
        traced(["-e", "trace=none", "-o", "/dev/null"], [WIPING, str(root)])
        assert list(root.iterdir()) == []
        shutil.rmtree(root)
    assert at - 1 >= least
