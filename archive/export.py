"""An export: a folder that proves itself, sealed to one recipient.

Every file is named by hash in a manifest, and the manifest's hash is a record of the log: by that
record, under a checkpoint that log and witness signed, the archive signs the export. Nothing of it
touches a disk in clear: it is put together in memory and leaves as one age file.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import msgspec
import pyrage

from archive import intray
from archive.batch import Entry
from archive.desk import Filed
from archive.errors import NotWitnessedError
from archive.export_pdf import transcript_pdf
from archive.index import Index
from archive.opening_handout import HandingOut, Permit
from archive.opening_reading import Evidence, Line
from archive.opening_records import Export
from archive.opening_session import Review
from archive.proving import VERIFIERS, Proving, Trusted, write_json
from archive.record import RecordType
from archive.shredding import ARCHIVE_BUCKET
from archive.store import Store
from crypto.attachment import AttachmentRef, open_attachment
from crypto.errors import CryptoError, InvalidError
from crypto.note import Note
from crypto.statement import statement_signers

VERIFIER = VERIFIERS / "verify.py"

EXPORT_BYTES = 1 << 30
"""Largest export, in bytes before it is sealed: it is put together in memory."""

PAGE_LINES = 1000
"""Lines asked of the worker at once."""

MANIFEST_HEAD = "Wardline export manifest 1"

README = """An export of the hospital's message archive.

transcript.txt, transcript.pdf   what was said, for people
transcript.jsonl                 the same, a line of JSON for each message
attachments/                     files that were sent, as far as the archive has them
case.json                        who asked for the opening and why, who approved and released it
records.jsonl                    the log's records of all that, each with its proof
evidence.jsonl, epochs.jsonl     what opens each message and shows who signed it
certificates/                    of everybody who signed something
checkpoint.txt                   the log's tree, signed by log and witness
trust.txt                        whom to believe: compare it with what you know from elsewhere
manifest.txt, manifest.proof     every file by its hash, and the proof that the archive wrote that
verify.py                        checks all of it: python verify.py (Python 3.11 and PyNaCl)
"""


def verifier_hash() -> bytes:
    """Return the hash of the verifier's file, which stands in the record of the hand-out."""
    return sha256(VERIFIER.read_bytes()).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An export without its manifest's proof.

    Attributes:
        files: By path.
        manifest: The text.
        wanted: Number by which the receipt of its record is asked for.
        lines: Messages in it.
    """

    files: dict[str, bytes] = field(repr=False)
    manifest: bytes = field(repr=False)
    wanted: int
    lines: int


class Exporter:
    """Puts exports of one opened scope together."""

    def __init__(
        self,
        review: Review,
        store: Store,
        handing_out: HandingOut,
        *,
        permit: Permit,
        announced: int,
        trusted: Trusted,
        attachments: Callable[[str], Iterable[bytes] | None],
    ) -> None:
        """Take what was opened.

        Args:
            review: Of the opened scope.
            store: The log's database.
            handing_out: By which it was handed out.
            permit: What permits it.
            announced: Number of the hand-out's record.
            trusted: Whom a reader is to believe.
            attachments: Gives the ciphertext of an upload by its name, or None.
        """
        self._review = review
        self._store = store
        self._handing_out = handing_out
        self._permit = permit
        self._announced = announced
        self._trusted = trusted
        self._proving = Proving(store=store, trusted=trusted)
        self._attachments = attachments

    def prepare(self, recipient: str, *, now_ms: int) -> Draft:
        """Return an export whose manifest is handed in to be recorded.

        Args:
            recipient: Public age key, ``age1...``.
            now_ms: Now.

        Raises:
            NotWitnessedError: Something of it is not under a cosigned checkpoint as yet.
            InvalidError: It is larger than ``EXPORT_BYTES``, or the recipient's key is none.
            ArchiveError: A database cannot be used.
        """
        _recipient(recipient)
        lines = sorted(self._lines(), key=lambda line: (line.group, line.sequence))
        evidence = self._evidence(lines)
        files = self._files(lines, evidence)
        if sum(map(len, files.values())) > EXPORT_BYTES:
            raise InvalidError("an export is put together in memory, below EXPORT_BYTES")
        manifest = manifest_of(files)
        body = Export(
            request=self._permit.hash,
            at_ms=now_ms,
            manifest=sha256(manifest).digest(),
            recipient=sha256(recipient.encode()).digest(),
            lines=len(lines),
        ).encode()
        entry = Entry(type=RecordType.EXPORT, body=body, bucket=ARCHIVE_BUCKET)
        wanted = intray.submit(self._store, entry)
        return Draft(files=files, manifest=manifest, wanted=wanted, lines=len(lines))

    def finish(self, draft: Draft) -> dict[str, bytes]:
        """Return the whole export, once its manifest's record is witnessed.

        Raises:
            NotWitnessedError: It is not, as yet.
        """
        receipt = intray.receipt(self._store, draft.wanted)
        if receipt is None:
            raise NotWitnessedError
        fields = self._proving.entry(receipt.index, self._proving.tree(receipt.note))
        fields["checkpoint"] = self._proving.note(receipt.note)
        return {
            **draft.files,
            "manifest.txt": draft.manifest,
            "manifest.proof": f"{write_json(fields)}\n".encode(),
            "verify.py": VERIFIER.read_bytes(),
        }

    # -- what goes in ---------------------------------------------------------------------------

    def _lines(self) -> Iterator[Line]:
        after = -1
        while page := self._review.timeline(after_index=after, limit=PAGE_LINES):
            yield from page
            after = page[-1].index

    def _evidence(self, lines: list[Line]) -> dict[int, Evidence]:
        found = {}
        for at in range(0, len(lines), PAGE_LINES):
            indices = [line.index for line in lines[at : at + PAGE_LINES]]
            found.update({one.index: one for one in self._review.evidence(indices)})
        return found

    def _files(self, lines: list[Line], evidence: dict[int, Evidence]) -> dict[str, bytes]:
        note = self._proving.witnessed()
        told = [_told(line, evidence.get(line.index)) for line in lines]
        contexts = sorted({one.context for one in evidence.values()})
        numbers = {context: number for number, context in enumerate(contexts)}
        return {
            "README.txt": README.encode(),
            "transcript.jsonl": _json_lines(told),
            "transcript.txt": render(told).encode(),
            "transcript.pdf": transcript_pdf(self._permit.request, told),
            "case.json": f"{write_json(self._case())}\n".encode(),
            "evidence.jsonl": _json_lines(
                _shown(one, numbers[one.context]) for _, one in sorted(evidence.items())
            ),
            "epochs.jsonl": _json_lines({"context": context.hex()} for context in contexts),
            "records.jsonl": _json_lines(self._records(lines, note)),
            "checkpoint.txt": self._proving.note(note).encode(),
            "trust.txt": self._trust().encode(),
            **self._certificates(lines),
            **dict(self._attached(lines)),
        }

    def _records(self, lines: list[Line], note: Note) -> Iterator[dict[str, Any]]:
        index = Index(self._store)
        wanted = {line.index for line in lines}
        groups = {(bytes.fromhex(line.group), line.epoch) for line in lines}
        for group_id in {group_id for group_id, _ in groups}:
            for place in index.epochs(group_id):
                if (group_id, place.epoch) in groups:
                    wanted.add(place.roster)
        for number in (*(one.wanted for one in self._permit.statements), self._announced):
            receipt = intray.receipt(self._store, number)
            if receipt is None:
                raise NotWitnessedError
            wanted.add(receipt.index)
        tree = self._proving.tree(note)
        for one in sorted(wanted):
            yield self._proving.entry(one, tree)

    def _certificates(self, lines: list[Line]) -> dict[str, bytes]:
        found = {"certificates/root.der": self._trusted.root.der}
        for group, epoch in {(line.group, line.epoch) for line in lines}:
            for member in self._handing_out.members(bytes.fromhex(group), epoch):
                name = sha256(member.certificate).hexdigest()
                found[f"certificates/{name}.der"] = member.certificate
        for filed in self._permit.statements:
            for signer in statement_signers(filed.data):
                data = self._handing_out.certificate(signer)
                found[f"certificates/{signer.hex()}.der"] = data
        return found

    def _attached(self, lines: list[Line]) -> Iterator[tuple[str, bytes]]:
        for line in lines:
            if line.kind != "attachment" or line.fault:
                continue
            pieces = self._attachments(str(line.fields["blob"]))
            if pieces is None:
                continue
            try:
                ref = AttachmentRef.decode(bytes.fromhex(line.fields["ref"]))
                data = b"".join(open_attachment(ref, pieces))
            except CryptoError:
                continue  # the transcript names it, and that it is missing here shows
            yield f"attachments/{line.index}-{_safe(str(line.fields['name']))}", data

    def _case(self) -> dict[str, Any]:
        request = self._permit.request
        return {
            "case": request.case,
            "reason": request.reason,
            "emergency": request.emergency,
            "records": self._permit.hits.records,
            "people": list(request.scope.people),
            "conversations": [one.hex() for one in request.scope.conversations],
            "patient": request.scope.patient,
            "from": instant(request.scope.from_ms),
            "until": instant(request.scope.until_ms),
            "request": self._permit.hash.hex(),
            "statements": [_signed(one) for one in self._permit.statements],
        }

    def _trust(self) -> str:
        return "".join(f"{name} {value}\n" for name, value in self._proving.trust().items())


def manifest_of(files: dict[str, bytes]) -> bytes:
    """Return the manifest of files: hash, size and path of each, by ascending path."""
    lines = [
        f"{sha256(data).hexdigest()} {len(data)} {name}" for name, data in sorted(files.items())
    ]
    return "\n".join([MANIFEST_HEAD, *lines, ""]).encode()


def seal(files: dict[str, bytes], recipient: str) -> bytes:
    """Return an export as a tar file, encrypted to its recipient as an age file.

    Raises:
        InvalidError: The recipient's key is none.
    """
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in sorted(files.items()):
            info = tarfile.TarInfo(f"wardline-export/{name}")
            info.size = len(data)
            info.mode = 0o600
            tar.addfile(info, io.BytesIO(data))
    sealed: bytes = pyrage.encrypt(packed.getvalue(), [_recipient(recipient)])
    return sealed


def _recipient(text: str) -> pyrage.x25519.Recipient:
    try:
        return pyrage.x25519.Recipient.from_str(text)
    except pyrage.RecipientError:
        raise InvalidError("a recipient is a public age key") from None


def instant(at_ms: int) -> str:
    """Return an instant for people: date and time in UTC, to the second."""
    return f"{datetime.fromtimestamp(at_ms // 1000, tz=UTC):%Y-%m-%d %H:%M:%S} UTC"


def render(lines: list[dict[str, Any]]) -> str:
    """Return the transcript for people, as the verifier compares it."""
    told: list[str] = []
    group = None
    for line in lines:
        if line["group"] != group:
            group = line["group"]
            told += ["", f"Conversation {group}", ""]
        text = str(line["text"]).replace("\n", "\n    ")
        fault = f" [{line['fault']}]" if line["fault"] else ""
        told.append(f"{line['sent']}  {line['sender']}  {line['kind']}{fault}")
        told += [f"    {text}"] if text else []
    return "\n".join(told).strip() + "\n"


def _json_lines(values: Iterable[dict[str, Any]]) -> bytes:
    return "".join(f"{write_json(value)}\n" for value in values).encode()


def _told(line: Line, evidence: Evidence | None) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(line)
    fields["sent"] = instant(line.sent_ms)
    fields["content"] = "" if evidence is None else evidence.content.hex()
    return fields


def _shown(evidence: Evidence, epoch: int) -> dict[str, Any]:
    return {
        "index": evidence.index,
        "leaf": evidence.leaf,
        "certificate": evidence.certificate.hex(),
        "key": evidence.key.hex(),
        "nonce": evidence.nonce.hex(),
        "epoch": epoch,
    }


def _signed(filed: Filed) -> dict[str, Any]:
    return {
        "kind": filed.kind.name.lower(),
        "officer": filed.officer,
        "signed": instant(filed.issued_ms),
        "recorded": instant(filed.recorded_ms or 0),
        "hash": filed.hash.hex(),
    }


def _safe(name: str) -> str:
    """Return a file's name without what a file system or a terminal would obey."""
    kept = "".join(char if char.isalnum() or char in "._-" else "_" for char in name)
    return kept.lstrip(".")[:100] or "file"
