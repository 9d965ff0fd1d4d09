"""What a device signs beside messages."""

from __future__ import annotations

from pathlib import Path

from crypto.statement import claimed_statement
from crypto.statement_types import Purpose, StatementType
from protocol.emergency import EMERGENCY_MS, Emergency
from protocol.identifiers import ConversationId, UserName
from tests.client.devices import ward
from tests.server import harness
from tests.server.harness import now_ms


async def test_whoever_signed_before_is_asked_for_where_they_are_not_known_here(
    tmp_path: Path,
) -> None:
    async with ward(tmp_path, harness.hospital(), "ann/phone", "bob/phone") as here:
        ann, bob = here["ann/phone"].device, here["bob/phone"].device
        assert not bob.devices(UserName("ann"))
        body = Emergency(
            conversation=ConversationId(bytes(32)),
            user=UserName("cat"),
            until_ms=now_ms() + EMERGENCY_MS // 2,
        ).encode()
        first = ann.statements.sign(StatementType.EMERGENCY, body, Purpose.DEVICE)
        both = await bob.statements.countersign(first, Purpose.DEVICE)
        assert claimed_statement(both).purposes == (Purpose.DEVICE,) * 2
