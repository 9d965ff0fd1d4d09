"""The proof of a wipe: it verifies with two files and PyNaCl alone, and no byte can be changed."""

from __future__ import annotations

import base64
import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from archive.authority_store import OutgoingKind
from archive.founding import log_signer
from archive.installation import record_certificates
from archive.intray import WITNESSED
from archive.proving import VERIFIERS, Proving, Trusted, write_json
from archive.wipe_proof import PROOF, WIPE_VERIFIER, wipe_proof
from bench.recorder import Device, certified
from client.officer_book import LogPolicy
from crypto.certificate import fingerprint
from crypto.errors import InvalidError
from crypto.names import Role
from crypto.statement import (
    Purpose,
    Signatory,
    StatementType,
    sign_statement,
    statement_id,
    statement_type,
)
from protocol.audit import AuditEvent, EventKind
from protocol.commands import WipeOrder, WipeReason, WipeReceipt
from protocol.frames import Deliver, EntryKind
from protocol.identifiers import AUDIT_LOG, CONTROL_LOG, DeviceId, LogId
from tests.archive.recording import Ward, ward
from tests.depth import DEPTH
from tests.server.harness import now_ms

FLIPS = 300
"""Bytes that are changed in a short run, one after another; a deep one changes every byte."""

STOLEN = DeviceId("user-0/phone")


@pytest.fixture(scope="module")
def verifier() -> Iterator[Any]:
    sys.path.insert(0, str(VERIFIERS))
    import verify_wipe  # type: ignore[import-not-found]  # noqa: PLC0415 - beside verify.py alone

    yield verify_wipe
    sys.path.remove(str(VERIFIERS))


def stated(
    of: Ward, kind: StatementType, body: bytes, by: Device, *, purpose: Purpose = Purpose.CONNECTION
) -> bytes:
    key = by.keys.signature_key
    if purpose is Purpose.CONNECTION:
        key = by.keys.connection_key
    signatory = Signatory(purpose=purpose, fingerprint=fingerprint(by.certificate), key=key)
    return sign_statement(
        kind,
        body,
        organisation=of.archive.organisation,
        issued_ms=now_ms(),
        lifetime_ms=3600_000,
        signatory=signatory,
    )


class Log:
    """One of the relay's logs, as the recorder gets it."""

    def __init__(self, name: LogId) -> None:
        self.name = name
        self.count = 0

    def __call__(self, body: bytes) -> Deliver:
        self.count += 1
        return Deliver(
            log=self.name,
            sequence=self.count,
            predecessor=self.count - 1,
            at_ms=now_ms(),
            kind=EntryKind.MESSAGE,
            body=body,
        )


def ordered(of: Ward, device: Device, admin: Device) -> bytes:
    order = WipeOrder(
        device=DeviceId(f"{device.keys.user}/{device.keys.device}"),
        connection_key=device.keys.connection_key.public_key,
        reason=WipeReason.STOLEN,
    )
    kind, purpose = StatementType.WIPE_ORDER, Purpose.ADMINISTRATOR
    return stated(of, kind, order.encode(), admin, purpose=purpose)


def countersigned(of: Ward) -> bytes:
    """Return the order that the authority lets out."""
    out = [one for one in of.archive.authority.outgoing() if one.kind is OutgoingKind.COMMAND]
    orders = [one.body for one in out if statement_type(one.body) is StatementType.WIPE_ORDER]
    return orders[-1]


def noted(kind: EventKind, device: DeviceId) -> bytes:
    return AuditEvent(kind=kind, at_ms=now_ms(), device=device).encode()


def said(of: Ward, kind: StatementType, device: Device, order: bytes) -> bytes:
    name = DeviceId(f"{device.keys.user}/{device.keys.device}")
    return stated(of, kind, WipeReceipt(device=name, order=statement_id(order)).encode(), device)


def wiped(of: Ward) -> None:
    """Let a device be ordered to wipe and say that it did, among what befalls others."""
    admin = certified(of.archive, "chief/desk", Role.ADMINISTRATOR)
    record_certificates(of.recorder, now_ms=now_ms())
    control, audit = Log(CONTROL_LOG), Log(AUDIT_LOG)
    stolen, other = of.devices[:2]
    of.take([control(ordered(of, stolen, admin)), audit(noted(EventKind.SUSPENDED, STOLEN))])
    order = countersigned(of)
    of.take(
        [
            control(order),
            audit(noted(EventKind.REVOKED, STOLEN)),
            audit(noted(EventKind.WIPED, STOLEN)),
            audit(noted(EventKind.OPENED, STOLEN)),
            audit(noted(EventKind.REVOKED, DeviceId("user-1/phone"))),
            control(ordered(of, other, admin)),
            control(said(of, StatementType.WIPE_DELIVERY, stolen, order)),
            control(said(of, StatementType.WIPE_RECEIPT, stolen, order)),
        ]
    )


def witnessed(of: Ward) -> Proving:
    """Witness what is recorded, as the running archive does."""
    note = of.publish()
    with of.log.store.transaction():
        of.recorder.live.put_setting(WITNESSED, note.encode())
    policy = LogPolicy(
        log=log_signer(of.archive.store).verifier, witnesses=(of.witness.key.verifier,)
    )
    trusted = Trusted(root=of.archive.authority.root, policy=policy)
    return Proving(store=of.log.store, trusted=trusted)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    with ward(tmp_path_factory.mktemp("archive")) as of:
        wiped(of)
        return wipe_proof(witnessed(of), STOLEN)


def written(files: dict[str, bytes], folder: Path) -> Path:
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def test_the_proof_tells_every_state_and_verifies_beside_its_two_programs(
    files: dict[str, bytes], tmp_path: Path
) -> None:
    folder = written(files, tmp_path)
    run = [sys.executable, str(folder / WIPE_VERIFIER.name)]
    done = subprocess.run(run, cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("user-0/phone: confirmed\n")
    lines = [line.split("  ")[-1].partition(" (")[0] for line in done.stdout.splitlines()]
    assert lines[1:8] == [
        "ordered, signed by chief/desk",
        "the relay noted: suspended",
        "cryptographic, signed by chief/desk and the authority",
        "the relay noted: revoked",
        "the relay noted: share destroyed",
        "delivered, signed by user-0/phone",
        "confirmed, signed by user-0/phone",
    ]
    assert lines[8].startswith("7 records are in the log")
    assert done.stdout.endswith("VERIFIED\n")


def test_changed_bytes_are_refused(files: dict[str, bytes], tmp_path: Path, verifier: Any) -> None:
    folder = written(files, tmp_path)
    chance = random.Random(1)
    assert verifier.main([str(folder)]) == 0
    places = range(len(files[PROOF]))
    for at in places if DEPTH > 1 else chance.sample(places, FLIPS):
        data = bytearray(files[PROOF])
        data[at] ^= 1 << chance.randrange(8)
        (folder / PROOF).write_bytes(data)
        assert verifier.main([str(folder)]) == 1


def without_the_receipt(proof: dict[str, Any]) -> None:
    del proof["records"][-1], proof["states"][-1]


def another_state(proof: dict[str, Any]) -> None:
    proof["states"][0]["state"] = "confirmed"


def another_time(proof: dict[str, Any]) -> None:
    proof["states"][0]["at_ms"] += 1


def another_device(proof: dict[str, Any]) -> None:
    proof["device"] = "user-1/phone"


def another_order_of_records(proof: dict[str, Any]) -> None:
    proof["records"].reverse()
    proof["states"].reverse()


def without_the_administrators_certificate(proof: dict[str, Any]) -> None:
    del proof["certificates"][1]


def more_beside(proof: dict[str, Any]) -> None:
    proof["more"] = 1


def no_order(proof: dict[str, Any]) -> None:
    proof["records"], proof["states"] = proof["records"][3:5], proof["states"][3:5]


@pytest.mark.parametrize(
    "change",
    [
        another_state,
        another_time,
        another_device,
        another_order_of_records,
        without_the_administrators_certificate,
        more_beside,
        no_order,
    ],
)
def test_a_proof_that_is_put_together_otherwise_is_refused(
    files: dict[str, bytes], tmp_path: Path, verifier: Any, change: Callable[[dict[str, Any]], None]
) -> None:
    proof = deepcopy(json.loads(files[PROOF]))
    change(proof)
    folder = written({PROOF: f"{write_json(proof)}\n".encode()}, tmp_path)
    assert verifier.main([str(folder)]) == 1


def der(tag: int, *inside: bytes) -> bytes:
    content = b"".join(inside)
    return bytes([tag, len(content)]) + content


def certificate_of(*, subject: bytes, extensions: bytes) -> bytes:
    """Return what has a certificate's outline, signed by nobody."""
    key = der(0x30, der(0x30), der(0x03, bytes(33)))
    tbs = der(0x30, der(0x02, b"1"), der(0x30), der(0x30), der(0x30), subject, key, extensions)
    return der(0x30, tbs, der(0x30), der(0x03))


ODD_ROOTS = {
    "nothing": b"",
    "no certificate": der(0x30),
    "a length beyond the end": b"\x30\x84\xff\xff\xff\xff",
    "a name of nothing": certificate_of(subject=der(0x30, der(0x31)), extensions=b""),
    "no list of extensions": certificate_of(subject=der(0x30), extensions=der(0xA3)),
    "an empty extension": certificate_of(
        subject=der(0x30), extensions=der(0xA3, der(0x30, der(0x30)))
    ),
}


@pytest.mark.parametrize("root", ODD_ROOTS.values(), ids=ODD_ROOTS)
def test_a_root_that_is_no_certificate_is_refused(
    files: dict[str, bytes], tmp_path: Path, verifier: Any, root: bytes
) -> None:
    """It is read before anything that it signed, whoever wrote it."""
    proof = json.loads(files[PROOF])
    proof["certificates"][0] = base64.b64encode(root).decode()
    proof["organisation"] = sha256(root).hexdigest()
    folder = written({PROOF: f"{write_json(proof)}\n".encode()}, tmp_path)
    with pytest.raises(verifier.RefusedError):
        verifier.verify(folder)


ODD_VALUES: list[object] = [
    None,
    True,
    -1,
    1e400,
    "",
    "\ud800",
    [],
    [[]],
    [None],
    {},
    {"record": 1},
]


@pytest.mark.parametrize("name", ["organisation", "log", "witness", "checkpoint", "records"])
@pytest.mark.parametrize("value", ODD_VALUES, ids=repr)
def test_whatever_stands_in_a_field_is_refused_and_never_an_error(
    files: dict[str, bytes], tmp_path: Path, verifier: Any, name: str, value: object
) -> None:
    proof = json.loads(files[PROOF])
    proof[name] = value
    text = json.dumps(proof, sort_keys=True, separators=(",", ":"))
    folder = written({PROOF: f"{text}\n".encode()}, tmp_path)
    assert verifier.main([str(folder)]) == 1


def test_a_proof_shows_no_more_than_its_records(
    files: dict[str, bytes], tmp_path: Path, verifier: Any
) -> None:
    proof = json.loads(files[PROOF])
    without_the_receipt(proof)
    folder = written({PROOF: f"{write_json(proof)}\n".encode()}, tmp_path)
    assert verifier.verify(folder)[0] == "user-0/phone: delivered"


def test_a_given_trust_counts_more_than_the_proofs_own(
    files: dict[str, bytes], tmp_path: Path, verifier: Any
) -> None:
    folder = written(files, tmp_path)
    proof = json.loads(files[PROOF])
    known = {name: proof[name] for name in ("organisation", "log", "witness")}
    assert verifier.verify(folder, **known)
    for name in known:
        assert verifier.main([str(folder), f"--{name}", "another"]) == 1


def test_what_another_device_or_key_says_is_in_no_proof_that_verifies(
    tmp_path: Path, verifier: Any
) -> None:
    """A relay could put such a receipt into the log; the verifier refuses what rests on it."""
    with ward(tmp_path / "archive") as of:
        admin = certified(of.archive, "chief/desk", Role.ADMINISTRATOR)
        record_certificates(of.recorder, now_ms=now_ms())
        control = Log(CONTROL_LOG)
        stolen, other = of.devices[:2]
        of.take([control(ordered(of, stolen, admin))])
        order = countersigned(of)
        body = WipeReceipt(device=STOLEN, order=statement_id(order)).encode()
        forged = stated(of, StatementType.WIPE_RECEIPT, body, other)
        of.take([control(order), control(forged)])
        (tmp_path / "proof").mkdir()
        folder = written(wipe_proof(witnessed(of), STOLEN), tmp_path / "proof")
    with pytest.raises(verifier.RefusedError):
        verifier.verify(folder)


def test_of_a_device_that_nobody_ordered_there_is_no_proof(tmp_path: Path) -> None:
    with ward(tmp_path / "archive") as of:
        audit = Log(AUDIT_LOG)
        of.take([audit(noted(EventKind.SUSPENDED, STOLEN))])
        with pytest.raises(InvalidError):
            wipe_proof(witnessed(of), STOLEN)
