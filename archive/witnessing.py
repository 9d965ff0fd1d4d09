"""What the archive asks of the relay as its witness: who it is, and that it signs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from archive import events, founding
from archive.alarms import Alarm
from archive.authority import Authority
from archive.installation import Installation
from archive.intray import WITNESSED, witnessed
from archive.log import Log
from archive.team import Team
from client.errors import LinkError, LostError, RefusedError
from client.link import Backoff, Link
from crypto.checkpoint import Checkpoint
from crypto.errors import CryptoError, InvalidError
from crypto.note import Note, NoteSignature, VerifierKey
from crypto.statement import StatementType, statement_type
from crypto.witness import NOT_CONSISTENT, STALE
from crypto.witness import RefusedError as WitnessRefusedError
from protocol import frames
from protocol.errors import Code
from protocol.frames import Frame

POLICY_S = 3.0
"""Seconds that the relay gets to take the log policy in before it is asked to cosign again."""


async def witness_key(link: Link) -> VerifierKey:
    """Return the key that the relay cosigns with.

    Raises:
        LinkError: The connection ended, or the answer is none.
    """
    answer = await link.ask(lambda ref: frames.GetWitnessKey(ref=ref))
    if not isinstance(answer, frames.WitnessKey):
        raise LostError(broke=Code.OUT_OF_STATE)
    try:
        return VerifierKey.decode(answer.key)
    except CryptoError:
        raise LostError(broke=Code.INVALID) from None


def cosignature(answer: Frame) -> NoteSignature:
    """Return the signature line that a witness answers with.

    Raises:
        CryptoError: It answers with something else.
        UnicodeDecodeError: It answers with what is no text.
    """
    if not isinstance(answer, frames.Cosigned):
        raise InvalidError("a witness answers with its cosignature")
    return NoteSignature.decode(answer.signature.decode())


class Witnessing:
    """Has the relay cosign what is recorded, over one connection.

    Attributes:
        note: The newest checkpoint with its cosignature; ``None`` before there is one.
    """

    def __init__(self, link: Link, team: Team, *, on_decided: Callable[[], None]) -> None:
        """Begin.

        Args:
            link: The connection.
            team: Whose log it is.
            on_decided: Told that the authority has something new to hand in.
        """
        self._link = link
        self._team = team
        self._recorder = team.recorder
        self._log: Log = team.recorder.log
        self._authority: Authority = team.recorder.authority
        self._on_decided = on_decided
        self.note: Note | None = witnessed(self._log.store)

    async def know_key(self) -> None:
        """See that the key that is pinned is the relay's; a restored relay has another.

        Nobody but the relay with the pinned TLS key can tell a new one, and it goes on record by
        the log policy, which the authority signs.

        Raises:
            LinkError: The connection ended.
        """
        key = await witness_key(self._link)
        if key == self._log.witness:
            return
        founding.add_witness(self._team.installation.file, key)
        self._log.change_witness(key)
        self.note = None
        self._team.gathering.name_witnesses(now_ms=self._team.clock())

    async def cosigned(self) -> Note:
        """Return the checkpoint of all that is recorded, once the relay has cosigned it.

        Raises:
            LinkError: The connection ended.
            HistoryError: The relay has cosigned another or a larger tree.
        """
        if self.note is not None and Checkpoint.decode(self.note.text).size == self._log.size:
            return self.note
        while (note := await self.asked()) is None:
            await self.outdo_log_policy()
        self.note = note
        with self._log.store.transaction():
            self._recorder.live.put_setting(WITNESSED, note.encode())
        return note

    async def asked(self) -> Note | None:
        """Ask the relay to cosign; return the note, or ``None`` where it is to be asked again.

        Raises:
            LinkError: The connection ended.
            HistoryError: The relay has cosigned another or a larger tree.
        """
        request = self._log.request()
        encoded = request.encode()
        try:
            answer = await self._link.ask(lambda ref: frames.Witness(ref=ref, request=encoded))
        except RefusedError as error:
            await self._refused(error)
            return None
        try:
            note = self._log.accept(request.note, cosignature(answer))
        except (CryptoError, UnicodeDecodeError):
            self._recorder.raise_alarm(Alarm.WITNESS)
            raise LostError(broke=Code.INVALID) from None
        self._recorder.alarms.pop(Alarm.WITNESS, None)
        return note

    async def _refused(self, error: RefusedError) -> None:
        if error.code is Code.STALE_CHECKPOINT:
            self._log.correct(WitnessRefusedError(STALE, error.detail))
        elif error.code is Code.FORKED_CHECKPOINT:
            self._log.correct(WitnessRefusedError(NOT_CONSISTENT, error.detail))
        else:
            # It does not know the log's key before the log policy has come to it.
            if error.code is not Code.NO_SUCH:
                self._recorder.raise_alarm(Alarm.WITNESS)
            await self.outdo_log_policy()
            self._authority.repeat_log_policy(now_ms=self._team.clock())
            self._on_decided()
            await asyncio.sleep(POLICY_S)

    async def outdo_log_policy(self) -> None:
        """Learn which log policy the relay has: a restored archive may have forgotten it."""
        before, after, more = -1, 0, True
        # A relay that promises more and gives none is not asked for ever.
        while more and before < after:
            before = after
            answer = await self._link.ask(lambda ref, n=after: frames.Standing(ref=ref, after=n))  # type: ignore[misc]
            if not isinstance(answer, frames.Statements):
                return
            for entry in answer.entries:
                after = max(after, entry.number)
                with contextlib.suppress(CryptoError):
                    if statement_type(entry.statement) is StatementType.COMMAND:
                        self._authority.outdo_log_policy(entry.statement)
            more = answer.more


async def pinned(archive: Installation) -> VerifierKey:
    """Return the relay's key as a witness: the one that is pinned, or now will be."""
    pinned = founding.witness_keys(archive.file)
    backoff = Backoff()
    while not pinned:
        try:
            link = await Link.open(archive.address, archive.credentials())
            try:
                founding.pin_witness(archive.file, await witness_key(link))
            finally:
                await link.close()
            pinned = founding.witness_keys(archive.file)
        except LinkError as error:
            events.warn("disconnected", error=type(error).__name__)
            await asyncio.sleep(backoff.pause_s())
    return pinned[0]
