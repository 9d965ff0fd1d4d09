"""kill -9 of a whole device at its writes and syncs, through everything that it does.

``WARDLINE_KILLS`` says at how many of each kind of call it is killed; 0 kills it at every one.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections import Counter
from pathlib import Path

import pytest

from client import steward
from client.store import Store
from protocol import limits
from protocol.identifiers import ConversationId
from tests.client.crash import engine
from tests.client.crash.speaking import KEYS
from tests.client.crash.test_crash import CALLS, killing, pytestmark, traced
from tests.client.devices import KEY, WAIT_S, Running, Ward, ward
from tests.server.harness import hospital

__all__ = ["pytestmark"]
SPEAKING = "tests.client.crash.speaking"
KILLS = int(os.environ.get("WARDLINE_KILLS", "1"))
COUNT = 2
COPIES = 1 if KILLS == 1 else 3
"""Old copies that are started, one after another."""

HASH_BYTES = 32


class Speaker:
    """Ann's phone, as a program of its own; and what it has promised so far.

    Attributes:
        said: Each once it was on its disk.
        refused: What it has told the person not to have sent.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[str] = []
        self.refused: list[str] = []
        self._runs = 0

    async def run(self, options: list[str]) -> bool:
        """Run it once under strace; return whether it came to its end."""
        self._runs += 1
        program = [SPEAKING, str(self.folder), str(self._runs), str(COUNT)]
        output = await asyncio.to_thread(traced, options, program)
        lines = [line.partition(" ") for line in output.decode().splitlines()]
        self.said += [text for what, _, text in lines if what == "said"]
        self.refused += [text for what, _, text in lines if what == "refused"]
        return any(what == "ended" for what, _, _ in lines)


async def began(here: Ward) -> tuple[Speaker, ConversationId]:
    """Return Ann's phone outside of this process, in a conversation with Bob."""
    folder = here.folder / "ann"
    await asyncio.to_thread(folder.mkdir)
    conversation = await here.talk("ann/phone", "bob/phone")
    await here.go("ann/phone")
    (here.folder / "ann-phone.db").rename(folder / "store.db")
    (folder / "where").write_text(conversation.hex())
    engine.write(folder, here.person("ann/phone"), here.hospital, port=here.site.port)
    return Speaker(folder), conversation


async def examine(speaker: Speaker, bob: Running, conversation: ConversationId) -> None:
    """Show that Bob has all that was promised, once, and that nothing was sealed twice alike."""
    wanted = [text for text in speaker.said if text not in speaker.refused]
    await bob.sees(conversation, *wanted)
    heard = Counter(text for text in bob.texts(conversation) if text.startswith("run"))
    # What was on the disk and not yet promised may have gone out too.
    assert set(heard.values()) == {1}
    assert not set(speaker.refused) & set(heard)
    order = [text for text in bob.texts(conversation) if text in set(wanted)]
    assert order == wanted
    # A key that was used twice would have been told as a message that cannot be read.
    assert bob.device.status.faults == 0
    kept = (speaker.folder / KEYS).read_bytes()
    sealed = [kept[at : at + HASH_BYTES] for at in range(0, len(kept), HASH_BYTES)]
    assert len(sealed) >= 2 * len(speaker.said)
    assert len(set(sealed)) == len(sealed)


async def test_a_device_that_is_killed_at_any_write_loses_and_repeats_nothing(
    tmp_path: Path,
) -> None:
    async with ward(tmp_path, hospital(), "ann/phone", "bob/phone") as here:
        speaker, conversation = await began(here)
        bob = here["bob/phone"]
        trace = tmp_path / "trace"
        assert await speaker.run(["-e", f"trace={','.join(CALLS)}", "-o", str(trace)])
        killed = runs = 0
        for call in CALLS:
            calls = len(re.findall(rf"^\d+ +{call}\(", trace.read_text(), re.MULTILINE))
            step = max(1, calls // KILLS) if KILLS else 1
            for at in range(1 + step // 2, calls + 1, step):
                await bob.say(conversation, f"bob {runs}")
                runs += 1
                killed += not await speaker.run(killing(call, at))
        assert killed > runs // 2
        assert await speaker.run(["-e", "trace=none", "-o", "/dev/null"])
        await examine(speaker, bob, conversation)
        assert speaker.refused == []
        await bob.device.settled(WAIT_S)
    store = Store.open(speaker.folder / "store.db", KEY)
    page = store.messages.page(conversation, limit=100_000)
    heard = [one.content.text for one in page if one.key.sender == "bob/phone"]
    # The last one may have come after the program had ended.
    assert heard == [f"bob {number}" for number in range(len(heard))]
    assert len(heard) >= runs - 1
    assert store.faults.all() == []
    store.close()


async def test_an_old_copy_of_a_store_that_is_started_sends_nothing_with_its_old_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RECEIPT_SILENCE_MS", 300)
    monkeypatch.setattr(steward, "RANK_MS", 50)
    async with ward(tmp_path, hospital(), "ann/phone", "bob/phone") as here:
        speaker, conversation = await began(here)
        bob, path = here["bob/phone"], speaker.folder / "store.db"
        quietly = ["-e", "trace=none", "-o", "/dev/null"]
        assert await speaker.run(quietly)
        kept = path.read_bytes()
        for _ in range(COPIES):
            assert await speaker.run(quietly)
            # Settled, closed and whole: what goes on from here is a copy of an older time.
            path.write_bytes(kept)
            for left in path.parent.glob("store.db-*"):
                left.unlink()
            before = len(speaker.refused)
            assert await speaker.run(quietly)
            # What was written before it knew is shown as not sent, to be said again.
            assert len(speaker.refused) <= before + 1
            kept = path.read_bytes()
        await examine(speaker, bob, conversation)
