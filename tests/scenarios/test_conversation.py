"""A conversation from its first Commit to its last, through a relay that cannot decrypt."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from crypto.errors import EpochError, VerificationError
from protocol.errors import Code
from tests.scenarios.members import Recorder
from tests.scenarios.process import Installation, installed
from tests.scenarios.ward import all_see, assembled, ward
from tests.server import harness
from tests.test_layout import DECRYPTS

GUARD = '''
import os, sys

class Refuse:
    """Refuses to find whatever decrypts, for this process and whatever it becomes."""

    def find_spec(self, name, path=None, target=None):
        if name in {refused}:
            with open({told}, "a") as told:
                told.write("refused " + name + "\\n")
            raise ImportError(name + " decrypts")

sys.meta_path.insert(0, Refuse())
with open({told}, "a") as told:
    told.write("guarded " + str(os.getpid()) + " " + os.environ.get("MALLOC_PERTURB_", "-") + "\\n")
'''


def guard(folder: Path, at: Installation) -> Path:
    """Have every Python that the installation starts refuse what decrypts; return what it tells."""
    told = folder / "told"
    told.touch()
    place = folder / "guard"
    place.mkdir()
    source = GUARD.format(refused=sorted(DECRYPTS), told=json.dumps(str(told)))
    (place / "sitecustomize.py").write_text(source)
    at.environment["PYTHONPATH"] = str(place)
    return told


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[tuple[Installation, Path]]:
    async with installed(tmp_path / "relay", harness.hospital()) as at:
        told = guard(tmp_path, at)
        await at.start()
        yield at, told


async def test_a_relay_that_can_import_nothing_that_decrypts_carries_a_whole_conversation(
    guarded: tuple[Installation, Path],
) -> None:
    at, told = guarded
    async with ward(at, "ann/phone", "bob/phone", "carl/phone") as (ann, bob, carl, recorder):
        conversation = await assembled([ann, bob, recorder])
        await ann.told(conversation, b"bed 7, please")
        await all_see([bob, recorder], conversation, b"bed 7, please")
        await bob.told(conversation, b"on my way")
        await all_see([ann, recorder], conversation, b"on my way")

        await ann.change(conversation, add=[carl.name])
        await carl.joins(conversation)
        await carl.told(conversation, b"I am here too")
        await all_see([ann, bob, recorder], conversation, b"I am here too")

        await bob.change(conversation)
        await carl.reaches(conversation, 3)
        await ann.change(conversation, remove=[bob.name])
        await bob.until(lambda: bob.talks[conversation].ended)
        secret = await ann.told(conversation, b"not for bob")
        await all_see([carl, recorder], conversation, b"not for bob")

        assert bob.talks[conversation].ended is Code.REMOVED
        assert b"not for bob" not in bob.talks[conversation].shown
        with pytest.raises((EpochError, VerificationError)):
            bob.talks[conversation].mls.process(secret, authenticate=bob.judge)
        for member in (ann, bob, carl, recorder):
            assert member.talks[conversation].is_whole
    lines = told.read_text().splitlines()
    # Twice in the process that serves: as it was started, and as it started itself anew.
    mine = [line.split() for line in lines if line.startswith(f"guarded {at.pid} ")]
    assert [perturb for _, _, perturb in mine] == ["-", "165"]
    assert [line for line in lines if line.startswith("refused")] == []


def test_the_guard_refuses_what_decrypts(tmp_path: Path) -> None:
    at = Installation(tmp_path / "relay", harness.hospital())
    guard(tmp_path, at)
    for module in sorted(DECRYPTS):
        tried = subprocess.run(
            [sys.executable, "-c", f"import {module}"],
            env=at.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert tried.returncode == 1
        assert "decrypts" in tried.stderr


async def test_a_garbage_commit_is_voided_and_nothing_that_was_sent_is_lost(
    guarded: tuple[Installation, Path],
) -> None:
    at, _ = guarded
    async with ward(at, "ann/phone", "bob/phone") as (ann, bob, recorder):
        conversation = await assembled([ann, bob, recorder])
        assert isinstance(recorder, Recorder)
        recorder.silent = True
        number = await bob.stage(conversation, garble=True)
        await bob.until(lambda: number in bob.accepted)
        await ann.told(conversation, b"while it was staged")
        await recorder.speak()
        for member in (ann, bob, recorder):
            talk = member.talks[conversation]
            await member.until(partial(getattr, talk, "voids"))
        await all_see([bob, recorder], conversation, b"while it was staged")
        assert ann.talks[conversation].mls.epoch == 1
        await ann.change(conversation)
        await ann.told(conversation, b"and afterwards")
        await all_see([bob, recorder], conversation, b"and afterwards")


async def test_a_message_that_comes_late_is_refused_and_encrypted_again_under_its_id(
    guarded: tuple[Installation, Path],
) -> None:
    at, _ = guarded
    async with ward(at, "ann/phone", "bob/phone") as (ann, bob, recorder):
        conversation = await assembled([ann, bob, recorder])
        await bob.disconnect()
        number = await bob.say(conversation, b"from the epoch before")
        await ann.change(conversation)
        await bob.connect()
        await bob.until(lambda: number in bob.accepted)
        await all_see([ann, recorder], conversation, b"from the epoch before")
        assert bob.talks[conversation].reencrypted == [number]
        assert ann.talks[conversation].shown == [b"from the epoch before"]
