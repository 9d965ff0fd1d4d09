"""How far a wipe has come, as the control log tells it."""

from __future__ import annotations

from client import administration
from client.orders import Stage, wipes
from client.views import Control
from crypto.statement import Signatory, countersign_statement, statement_id
from crypto.statement_types import Purpose, StatementType
from protocol.commands import WipeReason, WipeReceipt
from protocol.identifiers import DeviceId
from tests.crypto.hospital import NOW_MS, Device, Staff

STAFF = Staff()
BETH = STAFF.enrol("beth/phone")


def order(of: Device, *signatories: Signatory) -> bytes:
    act = administration.wipe(of.identity, WipeReason.STOLEN)
    return STAFF.state(act.kind, act.body, *signatories)


def control(
    sequence: int, statement: bytes, kind: StatementType, *, verified: bool = True
) -> Control:
    return Control(
        sequence=sequence,
        at_ms=1000 * sequence,
        type=kind,
        statement=statement,
        verified=verified,
    )


def completed(first: bytes) -> bytes:
    return countersign_statement(first, trust=STAFF.trust, at_ms=NOW_MS, signatory=STAFF.authority)


def receipt(of: Device, ordered: bytes, kind: StatementType = StatementType.WIPE_RECEIPT) -> bytes:
    body = WipeReceipt(device=DeviceId(of.identity.name), order=statement_id(ordered)).encode()
    return STAFF.state(kind, body, of.signs_as(Purpose.CONNECTION))


FIRST = order(STAFF.alice, STAFF.administrators[0])
COMPLETE = completed(FIRST)
ORDER = StatementType.WIPE_ORDER
RECEIPT = StatementType.WIPE_RECEIPT
DELIVERY = StatementType.WIPE_DELIVERY


def test_a_wipe_goes_from_ordered_to_cryptographic_to_delivered_to_confirmed() -> None:
    log = [
        control(3, FIRST, ORDER),
        control(5, COMPLETE, ORDER),
        control(8, receipt(STAFF.alice, COMPLETE, DELIVERY), DELIVERY),
        control(9, receipt(STAFF.alice, COMPLETE), RECEIPT),
    ]
    stages = [wipes(log[:count])[0].stage for count in (1, 2, 3, 4)]
    assert stages == [Stage.ORDERED, Stage.CRYPTOGRAPHIC, Stage.DELIVERED, Stage.CONFIRMED]
    (wipe,) = wipes(log)
    assert (wipe.ordered_ms, wipe.complete_ms) == (3000, 5000)
    assert (wipe.delivered_ms, wipe.confirmed_ms) == (8000, 9000)
    assert wipe.statement == COMPLETE
    assert wipe.sequences == (3, 5, 8, 9)
    assert (wipe.device, wipe.reason, wipe.administrators) == ("alice/phone", WipeReason.STOLEN, 1)


def test_what_did_not_verify_moves_nothing() -> None:
    log = [control(1, FIRST, ORDER), control(2, COMPLETE, ORDER, verified=False)]
    assert wipes(log)[0].stage is Stage.ORDERED
    assert wipes([control(1, FIRST, ORDER, verified=False)]) == []


def test_another_devices_receipt_confirms_nothing() -> None:
    log = [control(1, COMPLETE, ORDER), control(2, receipt(BETH, COMPLETE), RECEIPT)]
    assert wipes(log)[0].stage is Stage.CRYPTOGRAPHIC


def test_a_receipt_for_no_known_order_is_left_out() -> None:
    assert wipes([control(1, receipt(BETH, FIRST), RECEIPT)]) == []


def test_what_is_said_late_takes_no_state_back() -> None:
    (wipe,) = wipes(
        [
            control(1, COMPLETE, ORDER),
            control(2, receipt(STAFF.alice, COMPLETE), RECEIPT),
            control(3, receipt(STAFF.alice, COMPLETE, DELIVERY), DELIVERY),
        ]
    )
    assert wipe.stage is Stage.CONFIRMED


def test_a_second_administrators_signature_is_counted_and_an_older_copy_takes_none_back() -> None:
    both = STAFF.administrators
    act = administration.wipe(BETH.identity, WipeReason.LOST)
    one = STAFF.state(act.kind, act.body, both[0])
    two = countersign_statement(one, trust=STAFF.trust, at_ms=NOW_MS, signatory=both[1])
    (wipe,) = wipes([control(1, one, ORDER), control(2, two, ORDER), control(3, one, ORDER)])
    assert wipe.administrators == 2
    assert wipe.statement == two
    assert wipe.stage is Stage.ORDERED


def test_other_statements_are_no_wipes() -> None:
    act = administration.remove_person("alice")
    command = STAFF.state(act.kind, act.body, STAFF.administrators[0])
    assert wipes([control(1, command, StatementType.COMMAND)]) == []
