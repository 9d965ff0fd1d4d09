"""The officers' letters: from what was recorded to the desk, and from the desk into their chat."""

from __future__ import annotations

from archive.alarms import Alarm
from archive.casework import Casework
from archive.desk import Desk
from archive.recorder import Recorder
from archive.steward import Steward
from protocol.content import kinds
from protocol.content.affairs import Official
from protocol.identifiers import ConversationId, DeviceId

LETTERS = 50
"""Letters that are posted in one step."""

LOOK_MS = 60_000
"""How often, in ms, the officers' proofs are looked at."""

_OFFICIAL = "officers' conversation"


class Correspondence:
    """Between the desk and the conversation in which officers wrote last."""

    def __init__(
        self, recorder: Recorder, steward: Steward, desk: Desk, casework: Casework
    ) -> None:
        self._recorder = recorder
        self._steward = steward
        self._desk = desk
        self._casework = casework
        self._looked_ms = 0
        recorder.on_letter = self.received

    def received(
        self, conversation: ConversationId, sender: DeviceId, letter: bytes, at_ms: int
    ) -> None:
        """Keep a letter before its message is recorded; one that comes twice is worked twice."""
        self._desk.received(sender, letter, at_ms)
        self._recorder.official = conversation

    async def step(self, *, now_ms: int) -> None:
        """Work through what has come, and post what the desk has to say.

        Raises:
            LinkError: The connection ended.
        """
        self._casework.step(now_ms)
        self._look_at_officers(now_ms)
        conversation = self._conversation()
        if conversation is None:
            return
        for number, letter in self._desk.outgoing()[:LETTERS]:
            content = kinds.encode(Official(statements=(letter,)))
            if not await self._steward.say(conversation, content):
                return
            self._desk.sent(number)

    def _look_at_officers(self, now_ms: int) -> None:
        """See whether enough officers proved that they hold their keys, and opened anything."""
        self._looked_ms = self._looked_ms or now_ms
        if now_ms - self._looked_ms < LOOK_MS:
            return
        self._looked_ms = now_ms
        self._set(Alarm.LIVENESS, stands=self._casework.health(now_ms).alarm)
        self._set(Alarm.CANARY, stands=self._casework.is_opening_due(now_ms))

    def _set(self, alarm: Alarm, *, stands: bool) -> None:
        if not stands:
            self._recorder.alarms.pop(alarm, None)
        elif alarm not in self._recorder.alarms:
            self._recorder.raise_alarm(alarm)

    def _conversation(self) -> ConversationId | None:
        live = self._recorder.live
        official = self._recorder.official
        if official is not None:
            with self._recorder.log.store.transaction():
                live.put_setting(_OFFICIAL, official)
            self._recorder.official = None
        known = live.setting(_OFFICIAL)
        return None if known is None else ConversationId(known)
