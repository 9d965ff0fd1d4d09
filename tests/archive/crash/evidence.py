"""What must hold of the archive that a crash leaves behind, given what had left it before."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from archive import founding, installation
from archive.errors import ArchiveError
from archive.record import RecordType
from archive.verify import audit
from crypto.checkpoint import Checkpoint
from crypto.revocation import decode_revocations
from crypto.statement import StatementType, statement_type, verify_statement
from protocol.frames import EntryKind
from protocol.identifiers import AUDIT_LOG, LogId
from tests.archive.crash.driver import FILE, Box, Outside, Script
from tests.archive.crash.scene import LOST, NEW
from tests.server.harness import now_ms

_DER = b"\x30"
"""First octet of a certificate; a statement begins with another."""


def examine(directory: Path, script: Script, outside: Outside) -> list[str]:
    """Return what was lost, doubled or forked, at once and after the archive went on."""
    try:
        return list(_examined(directory / FILE, script, outside))
    except ArchiveError as error:
        return [f"the archive does not go on: {type(error).__name__}"]


def _examined(file: Path, script: Script, outside: Outside) -> Iterator[str]:
    decided = list(outside.decided)
    with installation.opened(file) as archive:
        with closing(Box(archive, outside, _silent)) as box:
            yield from _held(box, script, outside.acknowledged)
            yield from _decided(archive, decided)
            box.run(script)
            yield from _held(box, script, len(script.entries))
            yield from _decided(archive, outside.decided)
            yield from _once(box, script)
        yield from _audited(archive, outside)


def _silent(_what: str, **_fields: object) -> None:
    """Tell nobody."""


def _held(box: Box, script: Script, count: int) -> Iterator[str]:
    """See that what the relay has let go of is there as it came, and is not asked for again."""
    verdicts = dict(zip(script.slots, box.outside.verdicts, strict=False))
    followed = box.recorder.followed()
    for place, entry in enumerate(script.entries[:count]):
        if followed[LogId(entry.log)].through < entry.sequence:
            yield f"entry {place} would be read again"
        if entry.log.startswith(b"c"):
            body = verdicts.get(place, entry.body)
            index = box.log.index_of(hashlib.sha256(body).digest())
            if index is None or box.log.body(index) != body:
                yield f"entry {place} is lost"
    if box.log.size < box.outside.head.size:
        yield "the log is smaller than what was cosigned"


def _decided(archive: installation.Installation, decided: Sequence[bytes]) -> Iterator[str]:
    """See that what the authority has let out is still what it has decided, and no more."""
    orders = {one.answer for one in archive.store.wipings() if one.answer is not None}
    if len(orders) > 1:
        yield "one administrator alone had two devices wiped within an hour"
    certificates = set(archive.authority.all_certificates())
    for body in decided:
        if body.startswith(_DER):
            kept = body in certificates
        elif statement_type(body) is StatementType.WIPE_ORDER:
            kept = body in orders
        else:
            kept = archive.authority.trust.revocations.number >= _number(archive, body)
        if not kept:
            yield "the authority forgot what it had let out"


def _number(archive: installation.Installation, statement: bytes) -> int:
    verified = verify_statement(
        statement,
        expected=StatementType.REVOCATION_LIST,
        trust=archive.authority.trust,
        at_ms=now_ms(),
    )
    return decode_revocations(verified.body).number


def _once(box: Box, script: Script) -> Iterator[str]:
    """See that everything was recorded, each thing once."""
    counted = Counter(record.type for record in box.log.records())
    messages = sum(
        entry.log.startswith(b"c") and entry.kind == EntryKind.MESSAGE for entry in script.entries
    )
    expected = {
        RecordType.MESSAGE: messages,
        RecordType.RELAY_SECURITY_EVENT: sum(e.log == AUDIT_LOG for e in script.entries),
        RecordType.WIPE_ORDER: len(LOST),
        RecordType.VIEW: 1,
        RecordType.EPOCH_KEYS: 2,
        RecordType.FAULT_EVIDENCE: 2,
        RecordType.RESTORE_OR_GAP: 0,
    }
    for kind, count in expected.items():
        if counted[kind] != count:
            yield f"{counted[kind]} records of {kind.name} instead of {count}"
    devices = Counter(one.name for one in box.recorder.authority.trust.devices.values())
    if any(devices[name] != 1 for name in NEW):
        yield "a device has no certificate, or two"


def _audited(archive: installation.Installation, outside: Outside) -> Iterator[str]:
    signer = founding.log_signer(archive.store)
    last = Checkpoint(origin=signer.name, size=outside.head.size, root=outside.head.root)
    found = audit(
        archive.files.log,
        database_key=founding.database_key(archive.files),
        log_key=signer.verifier,
        last=last,
    )
    yield from (f"the audit found {finding.fault}" for finding in found.findings)
