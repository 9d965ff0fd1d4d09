"""Officers' devices as witnesses of the log: they are asked, gathered and believed against it.

The relay's cosignature is what receipts wait for. Officers' devices are off line for days: they are
asked through their inboxes, nothing waits for an answer, and ``status`` says how old the newest is.
Each answer shows what the device holds, signed by this log's own key. Where the log does not
continue that, it was set back or is a fork, whatever the relay says, and the archive stops.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from archive.authority_store import AuthorityStore
from archive.errors import HistoryError
from archive.log import Log
from client.pace import is_due
from crypto.checkpoint import Checkpoint
from crypto.codec import U8, U64, Opaque, Struct, Wire
from crypto.errors import InvalidError
from crypto.names import Role, read_text, write_text
from crypto.note import Note, VerifierKey
from crypto.statement import RULES, Signatory, StatementType, sign_statement, verify_statement
from crypto.trust import Trust
from crypto.witness import AddCheckpoint
from protocol import limits
from protocol.cosigning import Cosignature
from protocol.identifiers import DeviceId, OrganisationId

ASK_MS = 24 * 3600 * 1000
"""How often, in ms, a device that answers is asked: a history of at most a day is one witness's."""

AGAIN_MS = 7 * ASK_MS
"""After how long, in ms, a device that did not answer is asked again: the first question waits in
its inbox, and it answers each."""

SILENT_MS = 7 * ASK_MS
"""Age, in ms, of the newest cosignature at which it is an alarm: officers are away for a week-end,
and not all of them for a week."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosigner(Struct):
    """What is known of a device as a witness.

    Attributes:
        key: Its verifier key, empty before its first answer.
        note: The newest checkpoint that it showed, empty before.
        at_ms: When it cosigned that, by its clock.
        asked_ms: When it was asked last, by the archive's.
        waits: Whether it has not answered since, 0 or 1.
    """

    key: Annotated[str, Wire(read_text, write_text)] = ""
    note: Opaque = b""
    at_ms: U64 = 0
    asked_ms: U64 = 0
    waits: U8 = 0

    def holds(self, log: VerifierKey) -> Checkpoint | None:
        """Return the checkpoint of a log that it holds, or ``None``."""
        if not self.note:
            return None
        checkpoint = Checkpoint.decode(Note.decode(self.note).text)
        return checkpoint if checkpoint.origin == log.name else None

    def is_due(self, now_ms: int) -> bool:
        """Tell whether it is to be asked."""
        each_ms = AGAIN_MS if self.waits else ASK_MS
        return is_due(self.asked_ms, now_ms=now_ms, each_ms=each_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """As whom the archive asks.

    Attributes:
        organisation: Whose archive it is.
        signatory: The recorder.
    """

    organisation: OrganisationId
    signatory: Signatory


class Cosigners:
    """What officers' devices vouch for, kept beside the authority, and so in every backup.

    Every method raises the archive's errors where the database cannot be used.
    """

    def __init__(self, store: AuthorityStore, officers: Sequence[str]) -> None:
        """Take the database, and the officers' user names."""
        self._store = store
        self._officers = frozenset(officers)
        self._asked: set[DeviceId] = set()

    # -- who there is --------------------------------------------------------------------------

    def devices(self, trust: Trust, *, now_ms: int) -> list[DeviceId]:
        """Return the officers' devices that may be asked now, ascending."""
        found = {
            DeviceId(one.name)
            for one in trust.devices.values()
            if one.user in self._officers
            and Role.OFFICER in one.roles
            and one.is_valid_at(now_ms)
            and trust.revocations.since_ms(one) is None
        }
        return sorted(found)

    def of(self, device: DeviceId) -> Cosigner:
        """Return what is known of a device."""
        kept = self._store.secret(_name(device))
        return Cosigner() if kept is None else Cosigner.decode(kept)

    def keys(self, trust: Trust, *, now_ms: int) -> list[str]:
        """Return the devices' verifier keys, for the log policy."""
        known = [self.of(device).key for device in self.devices(trust, now_ms=now_ms)]
        return sorted(filter(None, known))[: limits.OFFICER_WITNESSES]

    def held(self, trust: Trust, log: VerifierKey) -> Iterator[tuple[Cosigner, Checkpoint]]:
        """Yield what each officer's device, also one that is gone, holds of a log."""
        officers = {one.name for one in trust.devices.values() if Role.OFFICER in one.roles}
        for device in sorted(officers):
            known = self.of(DeviceId(device))
            checkpoint = known.holds(log)
            if checkpoint is not None:
                yield known, checkpoint

    # -- asking --------------------------------------------------------------------------------

    def due(self, trust: Trust, *, now_ms: int) -> list[DeviceId]:
        """Return the devices to ask: each at a start, and from then on where its time has come."""
        return [
            device
            for device in self.devices(trust, now_ms=now_ms)
            if device not in self._asked or self.of(device).is_due(now_ms)
        ]

    def asked(self, device: DeviceId, *, now_ms: int) -> None:
        """Note that the relay has a question for a device."""
        self._asked.add(device)
        self._keep(device, replace(self.of(device), asked_ms=now_ms, waits=1))

    def question(self, device: DeviceId, log: Log, note: Note) -> AddCheckpoint:
        """Return what a device is asked: to go on from what it holds to a checkpoint.

        Args:
            device: Whom.
            log: The log.
            note: The checkpoint, which the relay has cosigned.
        """
        size = Checkpoint.decode(note.text).size
        held = self.of(device).holds(log.verifier)
        old_size = 0 if held is None else min(held.size, size)
        proof = log.consistency_proof(old_size=old_size, size=size) if old_size else ()
        return AddCheckpoint(old_size=old_size, proof=proof, note=note)

    # -- answers -------------------------------------------------------------------------------

    def answered(self, statement: bytes, log: Log, trust: Trust, *, at_ms: int) -> DeviceId:
        """Take an answer in; return whose it is.

        Args:
            statement: The ``COSIGNATURE``.
            log: The log.
            trust: The organisation's devices.
            at_ms: When the relay took it in.

        Raises:
            CryptoError: It is no answer of an officer's device about this log.
            HistoryError: The log does not continue what the device holds; it is kept.
        """
        verified = verify_statement(
            statement, expected=StatementType.COSIGNATURE, trust=trust, at_ms=at_ms
        )
        identity = verified.signers[0].identity
        if identity is None or identity.user not in self._officers:
            raise InvalidError("an officer of this organisation")
        device = DeviceId(identity.name)
        answer = Cosignature.decode(verified.body)
        found = answer.verify(device=device, log=log.verifier)
        known = replace(self.of(device), key=answer.key, waits=0)
        if found is None:
            self._keep(device, known)
            return device
        self._keep(device, replace(known, note=answer.note, at_ms=found.at_ms))
        check(found.checkpoint, log)
        return device

    def check(self, log: Log, trust: Trust) -> None:
        """See that the log continues what every device showed.

        Raises:
            HistoryError: It does not.
        """
        for _, checkpoint in self.held(trust, log.verifier):
            check(checkpoint, log)

    def _keep(self, device: DeviceId, known: Cosigner) -> None:
        with self._store.transaction():
            self._store.put_secret(_name(device), known.encode())


def check(checkpoint: Checkpoint, log: Log) -> None:
    """See that a log continues a checkpoint that its key signed.

    Raises:
        HistoryError: It is smaller, or another.
    """
    if checkpoint.size > log.signed.size or log.root(checkpoint.size) != checkpoint.root:
        raise HistoryError


def statement_for(question: AddCheckpoint, asking: Asking, *, now_ms: int) -> bytes:
    """Return a question as the recorder signs it."""
    return sign_statement(
        StatementType.CHECKPOINT,
        question.encode(),
        organisation=asking.organisation,
        issued_ms=now_ms,
        lifetime_ms=RULES[StatementType.CHECKPOINT].lifetime_ms,
        signatory=asking.signatory,
    )


def _name(device: DeviceId) -> str:
    return f"cosigner {device}"
