"""Verify the proof of a device's wipe, with Python 3.11, PyNaCl and verify.py beside this file.

python verify_wipe.py [FOLDER] [--organisation HEX] [--log KEY] [--witness KEY]

It asks neither the relay nor the archive. What it shows: each record was in the archive's log under
a checkpoint that log and witness signed; the order was signed by the administrators that are named
and last by the organisation's authority; what the device said of it was signed by the connection
key that the order names. What the relay noted is its own word, shown as what it said.

Whom to believe are three values, which the proof names itself unless they are given: compare them
with those that you know from somewhere else.

What it does not show: that the device's disk is empty. It shows that the device said so with its
last key, and that from ``cryptographic`` on the organisation held nothing that opens a copy of it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from verify import (  # type: ignore[import-not-found]  # beside this file, wherever that is
    DEVICE_OID,
    Certificate,
    Entry,
    Found,
    Key,
    Reader,
    RefusedError,
    Statement,
    check,
    decode_base64,
    decode_hex,
    read_certificate,
    read_json,
    read_statement,
    run,
    verify_checkpoint,
    verify_entry,
    write_json,
)

PROOF = "wipe.json"

_ORDER, _RECEIPT, _NOTE = 8, 9, 10
_WIPE_ORDER, _SAID = 7, {22: "delivered", 8: "confirmed"}
_AUTHORITY, _ADMINISTRATOR, _CONNECTION = 1, 2, 6
_ADMINISTRATOR_ROLE = 3
_NOTED = {
    8: "revoked",
    9: "suspended",
    10: "restored",
    11: "share destroyed",
    13: "order delivered",
    14: "wipe confirmed",
}
_REASONS = {1: "lost", 2: "stolen", 3: "disposed", 4: "left"}
_RANKS = ["ordered", "cryptographic", "delivered", "confirmed"]


@dataclass(frozen=True)
class Order:
    """What an order says."""

    device: str
    key: bytes
    reason: str


@dataclass(frozen=True)
class People:
    """Whose signatures count: the organisation's root and the certificates that it signed."""

    organisation: bytes
    root: Certificate
    certificates: dict[bytes, Certificate]

    def key_of(self, purpose: int, fingerprint: bytes) -> bytes:
        """Return the key that signs for this purpose."""
        if purpose == _AUTHORITY:
            check(fingerprint == self.organisation, "the authority is another organisation's")
            return bytes(self.root.key)
        signer = self.certificates.get(fingerprint)
        if signer is None:
            raise RefusedError("a statement's signer is not in the proof")
        if purpose == _ADMINISTRATOR:
            check(_ADMINISTRATOR_ROLE in signer.roles, "a signer is no administrator")
            return bytes(signer.key)
        check(purpose == _CONNECTION, "a statement is signed as something else")
        return connection_key(signer)

    def statement(self, data: bytes) -> Statement:
        """Return a statement of which every signature is right."""
        return read_statement(data, self.organisation, self.key_of)

    def name(self, purpose: int, fingerprint: bytes) -> str:
        """Return who signed."""
        if purpose == _AUTHORITY:
            return "the authority"
        return str(self.certificates[fingerprint].device)


def connection_key(certificate: Certificate) -> bytes:
    """Return the key that a device keeps outside its locked store."""
    reader = Reader(certificate.extensions.get(DEVICE_OID, b""))
    reader.opaque()
    return bytes(reader.take(32))


def read_order(statement: Statement) -> Order:
    """Return what an order says, once its signers are those that an order has."""
    reader = Reader(statement.body)
    device, key, reason = reader.opaque().decode(), reader.take(32), reader.number(1)
    reader.end()
    purposes = [purpose for purpose, _ in statement.signers]
    administrators = [purpose for purpose in purposes if purpose == _ADMINISTRATOR]
    ends = purposes[len(administrators) :]
    named = {fingerprint for _, fingerprint in statement.signers}
    check(
        statement.type == _WIPE_ORDER
        and 1 <= len(administrators) <= 2
        and ends in ([], [_AUTHORITY])
        and len(named) == len(purposes),
        "an order is signed by others",
    )
    check(reason in _REASONS, "an order has another reason")
    return Order(device, key, _REASONS[reason])


def states_of(entries: list[Entry], people: People) -> list[dict[str, Any]]:
    """Return what the records show, in the log's order."""
    orders: dict[bytes, Order] = {}
    told = []
    for entry in entries:
        kind = entry.record.type
        if kind == _NOTE:
            told.append(_noted(entry))
            continue
        statement = people.statement(entry.body)
        if kind == _ORDER:
            orders[statement.id] = read_order(statement)
        else:
            check(kind == _RECEIPT, "a record is of another kind")
            _check_said(statement, orders, people)
        told.append(_stated(entry, statement, people))
    check(orders, "the proof has no order")
    check(len({order.device for order in orders.values()}) == 1, "the orders are of two devices")
    return told


def _check_said(statement: Statement, orders: dict[bytes, Order], people: People) -> None:
    """Refuse what another than the ordered device said, or said of no order."""
    reader = Reader(statement.body)
    device, named = reader.opaque().decode(), reader.take(32)
    reader.end()
    order = orders.get(named)
    check(order is not None and statement.type in _SAID, "a device speaks of another order")
    assert order is not None  # noqa: S101 - checked just above, for the type checker
    (purpose, fingerprint), *more = statement.signers
    check(purpose == _CONNECTION and not more, "a device's word is signed by others")
    signer = people.certificates[fingerprint]
    same = (device, connection_key(signer)) == (order.device, order.key)
    check(same and signer.device == device, "another device than the ordered one speaks")


def _stated(entry: Entry, statement: Statement, people: People) -> dict[str, Any]:
    purposes = [purpose for purpose, _ in statement.signers]
    ordered = "cryptographic" if _AUTHORITY in purposes else "ordered"
    named = statement.body[-32:] if statement.type in _SAID else statement.id
    return {
        "state": _SAID.get(statement.type, ordered),
        "order": named.hex(),
        "at_ms": entry.record.at_ms,
        "record": entry.record.place,
        "by": [people.name(*signer) for signer in statement.signers],
    }


def _noted(entry: Entry) -> dict[str, Any]:
    """Return what the relay noted in its audit log."""
    relayed = Reader(entry.body)
    check(relayed.number(1) == 1, "a note of the relay's is of another version")
    relayed.opaque()
    relayed.take(8 + 8)
    event = Reader(relayed.opaque())
    relayed.end()
    check(event.number(1) == 1, "an event is of another version")
    kind, at_ms = event.number(1), event.number(8)
    device = event.opaque().decode() if event.number(1) else ""
    event.end()
    check(kind in _NOTED, "an event is of another kind")
    return {"noted": _NOTED[kind], "device": device, "at_ms": at_ms, "record": entry.record.place}


def certificates_of(found: Found, fields: dict[str, Any]) -> People:
    """Return the proof's certificates, each signed by the organisation's root, which is first."""
    root_der, *others = (decode_base64(one, what="a certificate") for one in fields["certificates"])
    check(sha256(root_der).digest() == found.organisation, "the root is another organisation's")
    root = read_certificate(root_der)
    certificates = {sha256(der).digest(): read_certificate(der, root.key) for der in others}
    check(list(certificates) == sorted(certificates), "certificates are in another order")
    check(len(certificates) == len(others), "a certificate is there twice")
    return People(found.organisation, root, certificates)


def verify(folder: Path, *, organisation: str = "", log: str = "", witness: str = "") -> list[str]:
    """Return what was verified of a proof, for people.

    Raises:
        RefusedError: Something is not what it should be.
    """
    blank = Key("", 0, b"")
    text = Found(folder, b"", blank, blank).text(PROOF)
    fields = read_json(text, PROOF)
    check(write_json(fields) + "\n" == text, f"{PROOF} is written in another way")
    given = {"organisation": organisation, "log": log, "witness": witness}
    for name, known in given.items():
        check(not known or known == fields[name], f"the proof is of another {name}")
    found = Found(
        folder,
        decode_hex(fields["organisation"], 32),
        Key.decode(fields["log"]),
        Key.decode(fields["witness"]),
    )
    tree = verify_checkpoint(str(fields["checkpoint"]), found.log, found.witness)
    entries = [verify_entry(one, tree, found.log_id) for one in fields["records"]]
    places = [entry.record.place for entry in entries]
    check(places == sorted(set(places)), "records are in another order")
    people = certificates_of(found, fields)
    states = states_of(entries, people)
    check(fields["states"] == states, "the states are told otherwise than the records show")
    check(set(fields) == _FIELDS, f"{PROOF} has other fields")
    _check_devices(fields["device"], entries, people, states)
    return [*_told(fields, states), *_trusted(fields, given, len(entries), tree.size)]


_FIELDS = {
    "organisation",
    "log",
    "witness",
    "checkpoint",
    "records",
    "certificates",
    "states",
    "device",
}


def _check_devices(
    device: object, entries: list[Entry], people: People, states: list[dict[str, Any]]
) -> None:
    orders = [entry for entry in entries if entry.record.type == _ORDER]
    named = {read_order(people.statement(entry.body)).device for entry in orders}
    noted = {one["device"] for one in states if "noted" in one}
    check(named | noted == {device}, "the proof is of another device")


def _told(fields: dict[str, Any], states: list[dict[str, Any]]) -> Iterator[str]:
    reached = [one["state"] for one in states if "state" in one]
    yield f"{fields['device']}: {max(reached, key=_RANKS.index)}"
    for one in states:
        if "state" in one:
            by = " and ".join(one["by"])
            yield f"  {_instant(one)}  {one['state']}, signed by {by} (record {one['record']})"
        else:
            yield f"  {_instant(one)}  the relay noted: {one['noted']} (record {one['record']})"


def _instant(one: dict[str, Any]) -> str:
    return f"{datetime.fromtimestamp(one['at_ms'] // 1000, tz=UTC):%Y-%m-%d %H:%M:%S} UTC"


def _trusted(
    fields: dict[str, Any], given: dict[str, str], records: int, size: int
) -> Iterator[str]:
    yield f"{records} records are in the log, whose tree has {size}"
    for name, known in given.items():
        note = "as given" if known else "as the proof says: compare it"
        yield f"{name} {fields[name]} ({note})"


def main(arguments: list[str]) -> int:
    """Verify a proof; return the exit status."""
    return int(run(arguments, verify, "the proof of a device's wipe"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
