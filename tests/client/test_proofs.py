"""What has no proof is asked for: each message once a day and under each log, and no other."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from client import proofs as module
from client.book import Book
from client.errors import RefusedError
from client.key_packages import Identity
from client.proofs import AGAIN_MS, PATIENCE_MS, Proofs
from client.store import Store
from crypto.note import SignatureType, SignerKey
from crypto.statement import Purpose, StatementType
from protocol import frames
from protocol.archived import ProofRequest
from protocol.errors import Code
from protocol.frames import Frame
from protocol.identifiers import DeviceId, inbox_log
from protocol.inbox import Item, decode_item
from tests.client.ward import WARD, anns, send

RECORDER = DeviceId("archive/recorder")
LATER_MS = 1_000 + PATIENCE_MS + 1


class Desk:
    """A device's requests for proofs, and a relay that takes them or not."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.trusted: Any = SimpleNamespace(log_policy=None)
        self.asked: list[int] = []
        self.code: Code | None = None
        book = cast("Book", SimpleNamespace(trusted=self.trusted))
        self.proofs = Proofs(store, book, identity=cast("Identity", self))
        self.under("first.example")

    def under(self, log: str) -> None:
        """Let the organisation have a log."""
        key = SignerKey.generate(log, SignatureType.ED25519).verifier
        self.trusted.log_policy = SimpleNamespace(log=key)

    def sign(self, kind: StatementType, body: bytes, purpose: Purpose, *, now_ms: int) -> bytes:
        assert (kind, purpose, now_ms > 0) == (StatementType.DEVICE_REQUEST, Purpose.DEVICE, True)
        return body

    async def ask(self, make: Any) -> Frame:
        if self.code is not None:
            raise RefusedError(self.code, 0)
        post = make(1)
        assert post.log == inbox_log(RECORDER)
        item: Item = decode_item(post.statement)
        for one in ProofRequest.decode(item.body).messages:
            assert one.message_hash == self.store.evidence.hash_of(WARD, one.sequence)
            self.asked.append(one.sequence)
        return frames.Done(ref=1)

    async def round(self, at_ms: int) -> list[int]:
        """Return the places that one round asks for."""
        self.asked = []
        await self.proofs.ask_again(self.ask, now_ms=at_ms)
        return self.asked


@pytest.fixture
def desk(store: Store, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setattr(module, "recorder_of", lambda _: RECORDER)
    monkeypatch.setattr(module, "MESSAGES", 2)
    monkeypatch.setattr(module, "AT_ONCE", 2)
    store.accepted({send(store, f"{number}"): number for number in range(1, 7)})
    return Desk(store)


async def test_each_is_asked_for_in_rounds_once_a_day_and_once_under_each_log(desk: Desk) -> None:
    desk.store.evidence.prove(WARD, 2)
    assert await desk.round(LATER_MS - 2) == []
    assert await desk.round(LATER_MS) == [1, 3, 4, 5]
    assert await desk.round(LATER_MS) == [6]
    assert await desk.round(LATER_MS) == []
    desk.under("second.example")
    assert desk.store.evidence.prove(WARD, 3) == anns(3)
    assert await desk.round(LATER_MS + 1) == [1, 4, 5, 6]
    assert await desk.round(LATER_MS + 1) == []
    assert await desk.round(LATER_MS + 1 + AGAIN_MS) == [1, 4, 5, 6]


async def test_what_the_relay_does_not_take_is_asked_for_again(desk: Desk) -> None:
    desk.code = Code.RATE_LIMITED
    assert await desk.round(LATER_MS) == []
    desk.code = None
    assert await desk.round(LATER_MS) == [1, 2, 3, 4]


async def test_who_knows_of_no_log_asks_for_nothing(desk: Desk) -> None:
    desk.trusted.log_policy = None
    assert await desk.round(LATER_MS) == []
