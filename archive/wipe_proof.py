"""The proof of a device's wipe: order, what the device said, what the relay noted, out of the log.

It is one file of records with their proofs, beside the verifiers that check it without relay or
archive. Who asks for it opens nothing: orders and receipts were never secret from this host.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from archive.evidence import Relayed
from archive.index import Index
from archive.proving import VERIFIERS, Proving, base64_of, write_json
from archive.record import Record, RecordType
from archive.scope import body_at
from crypto.certificate import decode_certificate
from crypto.errors import CryptoError, InvalidError
from crypto.statement import (
    Purpose,
    StatementType,
    claimed_statement,
    statement_id,
    statement_signers,
)
from protocol.audit import EventKind, decode_event
from protocol.commands import decode_wipe_order, decode_wipe_receipt
from protocol.identifiers import AUDIT_LOG, CONTROL_LOG, DeviceId

VERIFIER, WIPE_VERIFIER = VERIFIERS / "verify.py", VERIFIERS / "verify_wipe.py"
PROOF = "wipe.json"

NOTED = {
    EventKind.SUSPENDED: "suspended",
    EventKind.RESTORED: "restored",
    EventKind.REVOKED: "revoked",
    EventKind.WIPED: "share destroyed",
    EventKind.WIPE_DELIVERED: "order delivered",
    EventKind.WIPE_CONFIRMED: "wipe confirmed",
}
"""What the relay notes of a device's end, in the proof's words."""

_SAID = {StatementType.WIPE_DELIVERY: "delivered", StatementType.WIPE_RECEIPT: "confirmed"}
_STATEMENTS = frozenset({RecordType.WIPE_ORDER, RecordType.WIPE_RECEIPT})


def wipe_proof(proving: Proving, device: DeviceId) -> dict[str, bytes]:
    """Return the files of the proof: what the witnessed log has of the device's wipe.

    Args:
        proving: Over the archive's log.
        device: Which device.

    Raises:
        InvalidError: No order for the device is under a checkpoint that was cosigned.
        NotWitnessedError: No checkpoint was cosigned as yet.
        ArchiveError: A database cannot be used.
    """
    note = proving.witnessed()
    tree = proving.tree(note)
    found = dict(sorted(_records_of(proving, device, size=tree.size)))
    states = [state for state, _ in found.values()]
    if not any("state" in state for state in states):
        raise InvalidError("no order to wipe this device is on record")
    signers = {signer for _, some in found.values() for signer in some}
    root = proving.trusted.root
    certificates = [proving.certificate(one) for one in sorted(signers - {root.organisation})]
    proof = {
        "device": device,
        "states": states,
        "records": [proving.entry(index, tree) for index in found],
        "certificates": [base64_of(one) for one in (root.der, *certificates)],
        "checkpoint": proving.note(note),
        **proving.trust(),
    }
    return {
        PROOF: f"{write_json(proof)}\n".encode(),
        VERIFIER.name: VERIFIER.read_bytes(),
        WIPE_VERIFIER.name: WIPE_VERIFIER.read_bytes(),
    }


_Told = tuple[dict[str, Any], tuple[bytes, ...]]
"""A state as the proof tells it, and who signed."""


def _records_of(proving: Proving, device: DeviceId, *, size: int) -> Iterator[tuple[int, _Told]]:
    """Yield each record of the device's wipe, by its index below ``size``."""
    index = Index(proving.store)
    for log in (CONTROL_LOG, AUDIT_LOG):
        for place in index.places(log):
            if place.index >= size:
                continue
            if place.type in _STATEMENTS or place.type is RecordType.RELAY_SECURITY_EVENT:
                told = _told(proving, place.index, device)
                if told is not None:
                    yield place.index, told


def _told(proving: Proving, index: int, device: DeviceId) -> _Told | None:
    """Return what a record tells of the device's wipe; ``None`` where that is nothing."""
    found = body_at(proving.store, index)
    if found is None:
        return None
    record, _, body = found
    try:
        leaf = Record.decode(record)
        if leaf.type in _STATEMENTS:
            return _stated(proving, body, device, leaf)
        return _noted(body, device, index)
    except CryptoError:
        return None  # Whatever else came in that log; none of it is shown.


def _stated(proving: Proving, statement: bytes, device: DeviceId, leaf: Record) -> _Told | None:
    claimed = claimed_statement(statement)
    said = _SAID.get(claimed.type)
    if said is None:
        named, order = decode_wipe_order(claimed.body).device, statement_id(statement)
        said = "cryptographic" if Purpose.AUTHORITY in claimed.purposes else "ordered"
    else:
        receipt = decode_wipe_receipt(claimed.body)
        named, order = receipt.device, receipt.order
    if named != device:
        return None
    signers = statement_signers(statement)
    state = {
        "state": said,
        "order": order.hex(),
        "at_ms": leaf.at_ms,
        "record": leaf.index,
        "by": [_name(proving, signer) for signer in signers],
    }
    return state, signers


def _name(proving: Proving, signer: bytes) -> str:
    root = proving.trusted.root
    if signer == root.organisation:
        return "the authority"
    certificate = decode_certificate(proving.certificate(signer), root=root)
    return f"{certificate.claim.user}/{certificate.claim.device}"


def _noted(body: bytes, device: DeviceId, index: int) -> _Told | None:
    event = decode_event(Relayed.decode(body).body)
    noted = NOTED.get(event.kind)
    if noted is None or event.device != device:
        return None
    return {"noted": noted, "device": device, "at_ms": event.at_ms, "record": index}, ()
