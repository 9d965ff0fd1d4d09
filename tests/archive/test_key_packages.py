"""The recorder's key packages: whoever claims one, at any time, has one whose secrets are there."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from archive.steward import ANEW_MS, FEWEST_PACKAGES, PACKAGE_DAYS, PACKAGES
from client.errors import LostError
from client.link import Link
from crypto.certificate import DAY_MS
from crypto.mls import KeyPackage
from crypto.mls.cipher_suite import X25519_CHACHA20POLY1305_SHA256_ED25519 as SUITE
from protocol import frames
from tests.archive.recording import Ward, ward


class Relay:
    """A directory of one device's packages, which gives them out as the relay does."""

    def __init__(self) -> None:
        self.once: list[bytes] = []
        self.last = b""
        self.asked = 0
        self.is_lost = False

    async def ask(self, make: object) -> frames.Done:
        assert callable(make)
        asked = make(1)
        assert isinstance(asked, frames.PublishKeyPackages)
        self.asked += 1
        if self.is_lost:
            raise LostError
        assert asked.replace
        self.once, self.last = list(asked.packages), asked.last_resort
        return frames.Done(ref=1)

    def claimed(self) -> bytes:
        """Return the reference of what a claimant gets."""
        package = KeyPackage.decode(self.once.pop(0) if self.once else self.last)
        return package.reference(SUITE)


def opens(made: Ward, reference: bytes) -> bool:
    """Let a Welcome to a package in; tell whether its secrets were there."""
    own = made.recorder.live.package([reference])
    if own is not None:
        with made.log.store.transaction():
            made.recorder.live.use_package(own)
    return own is not None


async def test_a_package_claimed_before_others_were_published_still_opens(tmp_path: Path) -> None:
    with ward(tmp_path) as made:
        relay, steward = Relay(), made.archive.steward(made.recorder)
        await steward.begin(cast("Link", relay))
        assert len(relay.once) == PACKAGES
        early = [relay.claimed() for _ in range(PACKAGES + 2)]
        assert early[-1] == early[-2], "the one of last resort"
        on_its_way = [early.pop(), early.pop(0)]
        # The rest come in, and so few are left that others are published.
        assert all(opens(made, reference) for reference in early[:-1])
        await steward.step(now_ms=made.recorder.now_ms)
        assert relay.asked == 2
        assert relay.claimed() not in [*early, *on_its_way]
        assert all(opens(made, reference) for reference in on_its_way)
        assert not opens(made, on_its_way[1]), "a package is for one Welcome"
        assert opens(made, on_its_way[0]), "that of last resort is for several"


async def test_nothing_is_published_while_enough_is_left_and_all_of_it_anew_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ward(tmp_path) as made:
        relay, steward = Relay(), made.archive.steward(made.recorder)
        await steward.begin(cast("Link", relay))
        for _ in range(PACKAGES - FEWEST_PACKAGES):
            assert opens(made, relay.claimed())
        await steward.step(now_ms=made.recorder.now_ms)
        assert relay.asked == 1
        old = relay.claimed()
        monkeypatch.setattr(made.recorder, "_now_ms", made.recorder.now_ms + ANEW_MS)
        await steward.step(now_ms=made.recorder.now_ms)
        assert (relay.asked, len(relay.once)) == (2, PACKAGES)
        assert opens(made, old)
        # Nobody may use one whose time is over, and its secrets are gone by the next time.
        late = relay.claimed()
        monkeypatch.setattr(
            made.recorder, "_now_ms", made.recorder.now_ms + (PACKAGE_DAYS + 1) * DAY_MS
        )
        await steward.step(now_ms=made.recorder.now_ms)
        monkeypatch.setattr(made.recorder, "_now_ms", made.recorder.now_ms + ANEW_MS)
        await steward.step(now_ms=made.recorder.now_ms)
        assert not opens(made, late)


async def test_what_the_relay_did_not_take_is_published_again(tmp_path: Path) -> None:
    with ward(tmp_path) as made:
        relay, steward = Relay(), made.archive.steward(made.recorder)
        relay.is_lost = True
        with pytest.raises(LostError):
            await steward.begin(cast("Link", relay))
        relay.is_lost = False
        await steward.begin(cast("Link", relay))
        assert opens(made, relay.claimed())
        assert relay.asked == 2
        # One that was made while the clock was ahead opens nothing until then.
        published = made.recorder.live.setting("key packages") or b""
        ahead_ms = int.from_bytes(published[:8], "big") + DAY_MS
        with made.log.store.transaction():
            made.recorder.live.put_setting(
                "key packages", ahead_ms.to_bytes(8, "big") + published[8:]
            )
        await steward.step(now_ms=made.recorder.now_ms)
        assert relay.asked == 3


async def test_a_restored_relay_gets_packages_that_open_in_the_place_of_those_it_has(
    tmp_path: Path,
) -> None:
    with ward(tmp_path) as made:
        relay, steward = Relay(), made.archive.steward(made.recorder)
        await steward.begin(cast("Link", relay))
        copy, used = list(relay.once), relay.claimed()
        assert opens(made, used)
        relay.once = copy
        steward.unpublish()
        await made.archive.steward(made.recorder).begin(cast("Link", relay))
        assert relay.asked == 2
        claimed = relay.claimed()
        assert claimed != used
        assert opens(made, claimed)
