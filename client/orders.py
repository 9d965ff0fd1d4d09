"""Wipe orders as an administrator sees them: how far each has come, told from the control log.

An order suspends with its first signature; it is complete, and the device's store shut for ever,
once the authority has signed; it is delivered when the device says that it has it, and confirmed
when the device's own receipt is there. What counts is what this device could verify when it came.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum

from client.views import Control
from crypto.statement import claimed_statement
from crypto.statement_types import Purpose, StatementType
from protocol.commands import WipeReason, decode_wipe_order, decode_wipe_receipt
from protocol.identifiers import DeviceId


class Stage(StrEnum):
    """How far a wipe has come."""

    ORDERED = "ordered"
    """Suspended: sessions closed, unlock share withheld; a further signature is awaited."""
    CRYPTOGRAPHIC = "cryptographic"
    """The share is destroyed and the device revoked: nothing can open its store any more."""
    DELIVERED = "delivered"
    """The device has the order and has begun to destroy what it holds."""
    CONFIRMED = "confirmed"
    """The device has destroyed what it held, and said so under its connection key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wipe:
    """One order, from its first signature to its receipt.

    Attributes:
        id: The order's id, the same whoever has signed.
        device: Which device.
        reason: Why.
        stage: How far it has come.
        ordered_ms: When the relay took in the first signature, milliseconds since the epoch.
        complete_ms: When it took in the complete order; ``None`` before.
        delivered_ms: When it took in that the device has the order; ``None`` before.
        confirmed_ms: When it took in the receipt; ``None`` before.
        administrators: How many administrators have signed it.
        statement: The order with the most signatures so far.
        receipt: The device's receipt; empty before.
        sequences: Numbers of its entries in the control log, in order.
    """

    id: bytes
    device: DeviceId
    reason: WipeReason
    stage: Stage
    ordered_ms: int
    administrators: int
    statement: bytes = field(repr=False)
    complete_ms: int | None = None
    delivered_ms: int | None = None
    confirmed_ms: int | None = None
    receipt: bytes = field(default=b"", repr=False)
    sequences: tuple[int, ...] = ()


def wipes(controls: Iterable[Control]) -> list[Wipe]:
    """Return every wipe that the control log tells of, the oldest first."""
    found: dict[bytes, Wipe] = {}
    for control in controls:
        if not control.verified:
            continue
        if control.type is StatementType.WIPE_ORDER:
            _order(found, control)
        elif control.type in (StatementType.WIPE_DELIVERY, StatementType.WIPE_RECEIPT):
            _said(found, control)
    return list(found.values())


def _order(found: dict[bytes, Wipe], control: Control) -> None:
    claimed = claimed_statement(control.statement)
    order = decode_wipe_order(claimed.body)
    known = found.get(claimed.id)
    began = known or Wipe(
        id=claimed.id,
        device=order.device,
        reason=order.reason,
        stage=Stage.ORDERED,
        ordered_ms=control.at_ms,
        administrators=0,
        statement=control.statement,
    )
    administrators = claimed.purposes.count(Purpose.ADMINISTRATOR)
    complete = claimed.is_finished and began.complete_ms is None
    newest = len(claimed.purposes) > len(claimed_statement(began.statement).purposes)
    found[claimed.id] = replace(
        began,
        stage=Stage.CRYPTOGRAPHIC if complete else began.stage,
        complete_ms=control.at_ms if complete else began.complete_ms,
        administrators=max(administrators, began.administrators),
        statement=control.statement if newest else began.statement,
        sequences=(*began.sequences, control.sequence),
    )


def _said(found: dict[bytes, Wipe], control: Control) -> None:
    """Take in what the device says of its wipe."""
    said = decode_wipe_receipt(claimed_statement(control.statement).body)
    ordered = found.get(said.order)
    if ordered is None or ordered.device != said.device:
        return
    sequences = (*ordered.sequences, control.sequence)
    if control.type is StatementType.WIPE_RECEIPT:
        found[said.order] = replace(
            ordered,
            stage=Stage.CONFIRMED,
            confirmed_ms=control.at_ms,
            receipt=control.statement,
            sequences=sequences,
        )
    else:
        stage = ordered.stage if ordered.stage is Stage.CONFIRMED else Stage.DELIVERED
        found[said.order] = replace(
            ordered, stage=stage, delivered_ms=control.at_ms, sequences=sequences
        )
