"""kill -9 of a whole device, again and again, while it sends and receives."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from pathlib import Path

from client.store import Store
from tests.client.crash import engine
from tests.client.devices import KEY, WAIT_S, ward
from tests.depth import DEPTH
from tests.server.harness import hospital

KILLS = 2 * DEPTH
FULL_S = 120.0


async def _program(folder: Path) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.client.crash.engine",
        str(folder),
        stderr=asyncio.subprocess.PIPE,
    )


async def test_no_kill_of_a_device_loses_repeats_or_reuses_anything(tmp_path: Path) -> None:
    of = hospital()
    folder = tmp_path / "ann"
    folder.mkdir()
    async with ward(tmp_path, of, "ann/phone", "bob/phone") as here:
        bob = here["bob/phone"]
        conversation = await here.talk("ann/phone", "bob/phone")
        await here.go("ann/phone")
        (tmp_path / "ann-phone.db").rename(folder / "store.db")
        (folder / "where").write_text(conversation.hex())
        engine.write(folder, of.people["ann/phone"], of, port=here.site.port)
        said, killed = 0, 0
        while killed < KILLS:
            program = await _program(folder)
            for _ in range(random.randrange(8, 24)):
                await bob.say(conversation, f"bob {said}")
                said += 1
                await asyncio.sleep(random.uniform(0.05, 0.25))
            if program.returncode is None:
                program.send_signal(signal.SIGKILL)
            await program.wait()
            killed += 1
        program = await _program(folder)
        _, errors = await asyncio.wait_for(program.communicate(), FULL_S)
        assert program.returncode == 0, errors.decode()[-2000:]
        texts = [engine.text_of(number) for number in range(engine.WORDS)]
        await bob.sees(conversation, *texts)
        from_ann = [text for text in bob.texts(conversation) if text.startswith("ann")]
        assert from_ann == texts
        # A key that was used twice would have been told as a message that cannot be read.
        assert bob.device.status.faults == 0
        await bob.device.settled(WAIT_S)
    store = Store.open(folder / "store.db", KEY)
    page = store.messages.page(conversation, limit=100_000)
    heard = [one.content.text for one in page if one.key.sender == "bob/phone"]
    assert len(heard) == len(set(heard))
    # The last of what Bob said may have come after the program had ended.
    assert heard == [f"bob {number}" for number in range(len(heard))]
    assert store.faults.all() == []
    store.close()
