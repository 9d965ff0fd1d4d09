"""A relay that lies to its readers, and devices that read by the product's own rules.

Nothing here has a network or a clock of its own: who reads what, and when, is the walk's choice.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

from client.followed import Cause
from crypto.mls import KeyPackageSecrets
from protocol.authenticated_data import AuthenticatedData
from protocol.frames import Deliver, EntryKind
from protocol.identifiers import ConversationId
from protocol.routing import route
from tests.client.talk import Change, Talker
from tests.server.harness import RECORDER, Hospital, now_ms

DISTURBED = 1
"""How often a device is kept from the same entry at most: the second time counts as lost."""


@dataclass
class Lies:
    """What a relay does to one reader.

    Attributes:
        most: How often the same entry is left out, or overtaken, before it is given.
        lost: Numbers that it never gives.
    """

    most: int
    lost: set[int] = field(default_factory=set)
    disturbed: Counter[int] = field(default_factory=Counter)

    def spares(self, number: int) -> bool:
        """Tell whether an entry must come through now.

        One behind a number that is never given must: it is what shows the hole, and where it ends.
        """
        return self.disturbed[number] >= self.most or number - 1 in self.lost

    def disturb(self, number: int) -> None:
        """Note that an entry did not come in its turn."""
        self.disturbed[number] += 1


class Relay:
    """One conversation's log.

    Attributes:
        entries: All of it, in order.
        epoch: That has its receipt.
        pending: The Commit that waits for its verdict.
        voided: Commits that never counted, as they were.
    """

    def __init__(self, log: bytes, chosen: random.Random) -> None:
        self.log = log
        self.entries: list[Deliver] = []
        self.epoch = 0
        self.pending: Deliver | None = None
        self.voided: list[Deliver] = []
        self._chosen = chosen

    def append(self, body: bytes, kind: EntryKind) -> Deliver:
        """Take an entry in."""
        number = len(self.entries) + 1
        entry = Deliver(
            log=self.log,
            sequence=number,
            predecessor=number - 1,
            at_ms=now_ms(),
            kind=kind,
            body=body,
        )
        self.entries.append(entry)
        return entry

    def message(self, body: bytes) -> Deliver | None:
        """Take a message in, unless its epoch is over."""
        stale = route(body).epoch != self.epoch
        return None if stale else self.append(body, EntryKind.MESSAGE)

    def commit(self, body: bytes) -> Deliver | None:
        """Take a Commit in, by compare-and-swap."""
        if self.pending is not None or route(body).epoch != self.epoch:
            return None
        self.pending = self.append(body, EntryKind.COMMIT)
        return self.pending

    def verdict(self, statement: bytes, *, confirms: bool) -> None:
        """Take a verdict in; the body of a Commit that is void is gone."""
        assert self.pending is not None
        self.append(statement, EntryKind.RECEIPT if confirms else EntryKind.VOID)
        if confirms:
            self.epoch += 1
        else:
            self.voided.append(self.pending)
            self.entries[self.pending.sequence - 1] = _emptied(self.pending)
        self.pending = None

    def connection(self, after: int, lies: Lies) -> list[Deliver]:
        """Return what one connection brings behind a number, by all the rules of the art."""
        chosen, brought = self._chosen, list[Deliver]()
        waiting = [one for one in self.entries[after:] if one.sequence not in lies.lost]
        while waiting and chosen.random() > 0.03:
            entry = waiting.pop(0)
            fate = chosen.random()
            if fate < 0.1 and not lies.spares(entry.sequence):
                lies.disturb(entry.sequence)
                if fate < 0.05 and waiting:
                    # overtaken
                    brought += [waiting.pop(0), entry]
                continue
            brought += [entry] * (1 + (chosen.random() < 0.1))
            if chosen.random() < 0.1:
                brought.append(chosen.choice(brought))
        return brought


def _emptied(entry: Deliver) -> Deliver:
    """Return an entry as it is given once it is void."""
    return Deliver(
        log=entry.log,
        sequence=entry.sequence,
        predecessor=entry.predecessor,
        at_ms=entry.at_ms,
        kind=EntryKind.VOIDED,
        body=b"",
    )


class Phone:
    """A device: what it reads, and what it shows.

    Attributes:
        shown: Number and hash of each message that it shows.
        holes: Numbers that it passed over, and said so.
        unheard: Ids that a sender's next message named and that it never got.
        archived: Numbers of its own messages that the archive told it of.
        faults: Everything else that it found wrong.
    """

    def __init__(self, talker: Talker) -> None:
        self.talker = talker
        self.lies = Lies(most=DISTURBED)
        self.position = 0
        self.shown: dict[int, bytes] = {}
        self.holes: list[int] = []
        self.unheard: list[int] = []
        self.archived: set[int] = set()
        self.faults: list[Cause] = []
        self.ids: dict[int, int] = {}
        self._own: set[int] = set()
        self._outbox: list[tuple[str, int, int, bytes]] = []
        self._missed = -1

    # Saying.

    def say(self, text: str) -> None:
        """Seal a message; it goes out when the walk lets it."""
        talker = self.talker
        talker.counter += 1
        number, previous = talker.counter, talker.previous
        talker.previous = number
        self._outbox.append((text, number, previous, self._seal(text, number, previous)))

    def _seal(self, text: str, number: int, previous: int) -> bytes:
        data = AuthenticatedData(message_id=number, previous_id=previous).encode()
        group, message = self.talker.group.encrypt(text.encode(), authenticated_data=data)
        self.talker.view = replace(self.talker.view, group=group)
        return message

    def send(self, relay: Relay) -> None:
        """Hand in the oldest message; one that is stale is sealed again, once that is possible."""
        if not self._outbox:
            return
        text, number, previous, message = self._outbox[0]
        if route(message).epoch != relay.epoch:
            if self.talker.group.epoch != relay.epoch:
                return
            message = self._seal(text, number, previous)
        entry = relay.message(message)
        assert entry is not None
        self._outbox.pop(0)
        self._own.add(entry.sequence)
        self.ids[entry.sequence] = number
        self._show(entry)

    @property
    def is_quiet(self) -> bool:
        """Whether everything went out."""
        return not self._outbox

    def commit(self, relay: Relay, *, garbage: bool) -> None:
        """Begin another epoch, or seem to."""
        if self.talker.view.staged or self.talker.group.epoch != relay.epoch:
            return
        message, _ = self.talker.commit(Change())
        self.committed(relay, message[:-16] + bytes(16) if garbage else message)
        if garbage:
            self.talker.view = replace(self.talker.view, staged=())

    def committed(self, relay: Relay, message: bytes) -> None:
        """Hand in a Commit that waits in this device's view."""
        entry = relay.commit(message)
        if entry is None:
            self.talker.view = replace(self.talker.view, staged=())
        else:
            self._own.add(entry.sequence)

    # Reading.

    def read(self, relay: Relay) -> None:
        """Read one connection to its end, or to its first hole."""
        for entry in relay.connection(self.position, self.lies):
            if entry.sequence <= self.position:
                continue
            if entry.predecessor > self.position and not self._pass_over(entry):
                return
            self.position = entry.sequence
            if entry.sequence not in self._own:
                self._follow(entry)

    def _pass_over(self, entry: Deliver) -> bool:
        """Go on over a hole that the last connection had as well; note it, as devices do."""
        if self._missed != self.position:
            self._missed = self.position
            return False
        hole = range(self.position + 1, entry.predecessor + 1)
        self.holes += [number for number in hole if number not in self._own]
        return True

    def _follow(self, entry: Deliver) -> None:
        followed = self.talker.take(entry)
        self.talker.made.clear()
        if followed.said is not None:
            self._show(entry)
        for fault in followed.faults:
            if fault.cause is Cause.HOLE:
                self.unheard.append(fault.missing)
            elif entry.kind != EntryKind.COMMIT:
                self.faults.append(fault.cause)

    def _show(self, entry: Deliver) -> None:
        assert entry.sequence not in self.shown
        self.shown[entry.sequence] = hashlib.sha256(entry.body).digest()


def unheard(
    sent: Mapping[int, tuple[str, int]], lost: AbstractSet[int]
) -> dict[int, tuple[str, int]]:
    """Return what a reader notices by the next message of the same sender.

    Args:
        sent: Sender and id of each message, by number.
        lost: Numbers that the reader never got.

    Returns:
        Sender and id of what it misses, by the number of the message that names it.
    """
    found: dict[int, tuple[str, int]] = {}
    before: dict[str, int] = {}
    heard: set[str] = set()
    silent: set[str] = set()
    for number, (sender, message_id) in sorted(sent.items()):
        if number not in lost and sender in silent:
            found[number] = (sender, before[sender])
        silent.discard(sender)
        # Of who was never heard, nothing is known to be missing but the number in the log.
        if number in lost and sender in heard:
            silent.add(sender)
        if number not in lost:
            heard.add(sender)
        before[sender] = message_id
    return found


class Vault(Talker):
    """The recorder as whoever adds it sees it: a name, and a key package."""

    def __init__(
        self, own: KeyPackageSecrets, *, of: Hospital, conversation: ConversationId
    ) -> None:
        super().__init__(of.people[RECORDER], of, conversation)
        self.packages.append(own)

    def package(self) -> KeyPackageSecrets:
        return self.packages[0]
