"""The officers' letters: from what was recorded to the desk, and from the desk into their chat."""

from __future__ import annotations

from collections.abc import Callable

from archive import canary
from archive.alarms import Alarm
from archive.casework import Casework
from archive.desk import Desk
from archive.recorder import Recorder
from archive.steward import Steward
from client.pace import is_due
from protocol.content import kinds
from protocol.content.affairs import Official
from protocol.identifiers import ConversationId, DeviceId

LETTERS = 50
"""Letters that are posted in one step."""

LOOK_MS = 60_000
"""How often, in ms, the officers' proofs are looked at."""

REVIEW_MS = 600_000
"""How often, in ms, it is looked whether the canary is to be offered or opened."""

_OFFICIAL = "officers' conversation"
_TOLD = "officers told of holds"
"""Settings: where officers wrote last, and which devices were there when holds were told."""


class Correspondence:
    """Between the desk and the conversation in which officers wrote last."""

    def __init__(
        self,
        recorder: Recorder,
        steward: Steward,
        desk: Desk,
        casework: Casework,
        *,
        review: Callable[[], None],
    ) -> None:
        """Take them.

        Args:
            recorder: Takes letters in.
            steward: Posts them.
            desk: Keeps them.
            casework: Answers them.
            review: Starts what offers and opens the canary, in a process of its own.
        """
        self._recorder = recorder
        self._steward = steward
        self._desk = desk
        self._casework = casework
        self._review = review
        self._looked_ms = 0
        self._reviewed_ms = 0
        self._welcomed: int | None = None
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
        self._look_at_canary(conversation, now_ms)
        self._look_at_newcomers(conversation)
        for number, letter in self._desk.outgoing()[:LETTERS]:
            content = kinds.encode(Official(statements=(letter,)))
            if not await self._steward.say(conversation, content):
                return
            self._desk.sent(number)

    def _look_at_officers(self, now_ms: int) -> None:
        """See whether enough officers proved that they hold their keys, and opened anything."""
        self._looked_ms = self._looked_ms or now_ms
        if not is_due(self._looked_ms, now_ms=now_ms, each_ms=LOOK_MS):
            return
        self._looked_ms = now_ms
        self._set(Alarm.LIVENESS, stands=self._casework.health(now_ms).alarm)
        due = self._casework.is_opening_due(now_ms)
        self._set(Alarm.CANARY, stands=due or canary.failed(self._recorder.log.store))

    def _look_at_canary(self, conversation: ConversationId, now_ms: int) -> None:
        """Write one where there is none; have it offered when it is due, opened when released."""
        store = self._recorder.log.store
        if canary.is_wanted(store, conversation):
            canary.plant(store, self._desk, conversation, now_ms=now_ms)
        elif is_due(self._reviewed_ms, now_ms=now_ms, each_ms=REVIEW_MS):
            self._reviewed_ms = now_ms
            if self._is_review_due(now_ms):
                self._review()

    def _look_at_newcomers(self, conversation: ConversationId) -> None:
        """Tell the holds in force where a device has come that was not there when they were set."""
        live = self._recorder.live
        group = live.view(conversation).group
        if group is None or group.epoch == self._welcomed:
            return
        self._welcomed = group.epoch
        here = "\n".join(self._recorder.members(group)).encode("ascii")
        if set(here.split()) - set((live.setting(_TOLD) or b"").split()):
            self._casework.tell_holds()
        with self._recorder.log.store.transaction():
            live.put_setting(_TOLD, here)

    def _is_review_due(self, now_ms: int) -> bool:
        one = canary.known(self._recorder.log.store)
        if one is None:
            return False
        if one.session and self._casework.opened_ms() >= one.asked_ms:
            return True
        asked = bool(one.session) and now_ms - one.asked_ms < canary.ASKED_MS
        return not asked and self._casework.is_opening_due(now_ms)

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
