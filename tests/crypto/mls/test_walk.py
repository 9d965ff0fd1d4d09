"""A random walk of a ward: everyone can message everyone, the removed cannot, whatever happens.

The walk takes 300 steps times ``WARDLINE_DEPTH``; ``WARDLINE_SEED`` repeats one.
"""

from __future__ import annotations

import os
import random
import secrets
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import pytest

from crypto.errors import CryptoError, EpochError, KeyUsedError
from crypto.mls import (
    Add,
    ApplicationMessage,
    Group,
    KeyPackageSecrets,
    OwnMessage,
    ReceivedProposal,
    Remove,
    StagedCommit,
)
from crypto.mls.external import join_by_external_commit
from crypto.mls.group import PAST_EPOCHS
from crypto.mls.proposal import Proposal
from crypto.mls.tree_math import LeafIndex
from tests.crypto.mls.ward import DOCUMENTED, STAFF, by_roster, found, key_package, saved
from tests.depth import DEPTH

STEPS = 300


@dataclass(slots=True)
class Member:
    """A member's device: its state, what it has saved, and how far it has read.

    Attributes:
        key: Its signature key, by which the ward tells devices apart.
        read_to: Place in the ward's log of handshakes up to which it has processed.
        own_commit: A Commit of its own that it sent, by the place where it stands.
    """

    key: bytes
    group: Group
    read_to: int
    store: dict[str, bytes] = field(default_factory=dict)
    saved_as: Group | None = None
    own_commit: dict[int, StagedCommit] = field(default_factory=dict)
    inbox: list[Sent] = field(default_factory=list)
    seen: set[bytes] = field(default_factory=set)

    def become(self, group: Group) -> None:
        """Take a new state, saving only what changed."""
        for key, data in group.changes(self.saved_as).items():
            if data is None:
                del self.store[key]
            else:
                self.store[key] = data
        self.group = self.saved_as = group


@dataclass(frozen=True, slots=True)
class Sent:
    """An application message, and who could read it."""

    message: bytes
    text: bytes
    epoch: int
    sender: bytes
    readers: frozenset[bytes]


class Ward:
    """The ward as its relay sees it: one log of handshakes, and messages that go astray."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.log: list[bytes] = []
        self.packages: dict[bytes, KeyPackageSecrets] = {}
        self.members: dict[bytes, Member] = {}
        self.gone: list[Group] = []
        self._enter(found(STAFF[0]))

    def _enter(self, group: Group) -> None:
        key = group.current.signer.public_key
        member = Member(key=key, group=group, read_to=len(self.log))
        member.become(group)
        self.members[key] = member

    def _any(self) -> Member:
        return self.chance.choice(list(self.members.values()))

    @property
    def _room(self) -> int:
        return len(STAFF) - len(self.members)

    def _newcomer(self) -> KeyPackageSecrets:
        own = key_package(self.chance.choice(STAFF))
        self.packages[own.signer.public_key] = own
        return own

    # -- reading -----------------------------------------------------------------------------------

    def catch_up(self, member: Member) -> None:
        """Process all handshakes that the member has not seen, in order."""
        while member.key in self.members and member.read_to < len(self.log):
            place = member.read_to
            member.read_to += 1
            self._handshake(member, place)

    def _handshake(self, member: Member, place: int) -> None:
        group, received = member.group.process(self.log[place], authenticate=by_roster)
        if isinstance(received, OwnMessage):
            own = member.own_commit.pop(place, None)
            if own is not None:
                assert own.group is not None
                group = group.merge(own.group)
        elif isinstance(received, StagedCommit):
            if received.group is None:
                self._leave(member)
                return
            if self.chance.random() < 0.1:  # staged and dropped: the state is as it was
                assert group.changes(None).keys() == saved(group).keys()
                again, received = Group.load(saved(member.group)).process(
                    self.log[place], authenticate=by_roster
                )
                assert isinstance(received, StagedCommit)
                assert received.group is not None
                group = again
                member.saved_as = None
                member.store.clear()
            assert received.group is not None
            group = group.merge(received.group)
        else:
            assert isinstance(received, ReceivedProposal)
        member.become(group)

    def _leave(self, member: Member) -> None:
        self.gone.append(member.group)
        del self.members[member.key]

    def read_one(self) -> None:
        """Deliver one waiting message to one member: late, early, again or never."""
        member = self._any()
        if not member.inbox:
            return
        sent = member.inbox.pop(self.chance.randrange(len(member.inbox)))
        fate = self.chance.random()
        if fate < 0.1:
            return  # lost
        if self._read(member, sent) and fate < 0.3:
            with pytest.raises(KeyUsedError):
                member.group.process(sent.message, authenticate=by_roster)

    def _read(self, member: Member, sent: Sent) -> bool:
        behind = member.group.epoch - sent.epoch
        if member.key not in sent.readers or behind > PAST_EPOCHS or behind < 0:
            with pytest.raises(CryptoError) as refused:
                member.group.process(sent.message, authenticate=by_roster)
            assert isinstance(refused.value, DOCUMENTED)
            if behind < 0:
                member.inbox.append(sent)  # of an epoch to come
            return False
        group, received = member.group.process(sent.message, authenticate=by_roster)
        assert isinstance(received, ApplicationMessage)
        assert received.data == sent.text
        assert received.leaf.signature_key == sent.sender
        member.become(group)
        return True

    # -- writing -----------------------------------------------------------------------------------

    def send(self) -> None:
        """Let a member write, wherever in the log it stands."""
        member, text = self._any(), secrets.token_bytes(self.chance.randint(0, 40))
        group, message = member.group.encrypt(text)
        member.become(group)
        readers = frozenset(leaf.signature_key for _, leaf in member.group.members)
        sent = Sent(message, text, group.epoch, member.key, readers)
        for other in self.members.values():
            if other is not member:
                other.inbox.append(sent)
        for removed in self.gone[-3:]:
            if removed.epoch < sent.epoch:
                with pytest.raises(DOCUMENTED):
                    removed.process(message, authenticate=by_roster)

    def propose(self) -> None:
        """Let a member propose something."""
        member = self._any()
        self.catch_up(member)
        if member.key not in self.members:
            return
        public = self.chance.random() < 0.5
        kind = self.chance.randrange(3)
        if kind == 0:
            group, message = member.group.propose_update(public=public)
        elif kind == 1 and self._room:
            group, message = member.group.propose(Add(self._newcomer().key_package), public=public)
        else:
            leaf, _ = self.chance.choice(member.group.members)
            group, message = member.group.propose(Remove(leaf), public=public)
        self.log.append(message)
        member.become(group)

    def commit(self) -> None:
        """Let a member commit; sometimes another is faster and the Commit is dropped."""
        member = self._any()
        self.catch_up(member)
        if member.key not in self.members:
            return
        if self.chance.random() < 0.2:
            self._staged(member)  # made, never sent
        try:
            staged = self._staged(member, self._changes(member))
        except DOCUMENTED:  # what waits and what is chosen here may exclude each other
            staged = self._staged(member, leave_out=member.group.pending)
        assert staged.group is not None
        member.own_commit = {len(self.log): staged}
        self.log.append(staged.message)
        self.catch_up(member)
        assert member.group.epoch == staged.group.epoch
        if staged.welcome is not None:
            self._welcome(staged)

    def _staged(
        self,
        member: Member,
        proposals: Sequence[Proposal] = (),
        *,
        leave_out: Collection[bytes] = (),
    ) -> StagedCommit:
        group, staged = member.group.commit(
            proposals,
            authenticate=by_roster,
            leave_out=leave_out,
            with_path=self.chance.random() < 0.7,
            with_tree=False,
            public=self.chance.random() < 0.3,
        )
        member.become(group)
        return staged

    def _changes(self, member: Member) -> list[Proposal]:
        count = min(self._room, self.chance.randint(0, 3))
        proposals: list[Proposal] = [Add(self._newcomer().key_package) for _ in range(count)]
        others = [leaf for leaf, _ in member.group.members if leaf != member.group.own_leaf]
        if len(others) > 3 and self.chance.random() < 0.4:
            leaves = self.chance.sample(others, self.chance.randint(1, 3))
            proposals += [Remove(LeafIndex(leaf)) for leaf in leaves]
        return proposals

    def _welcome(self, staged: StagedCommit) -> None:
        assert staged.group is not None
        for item in staged.proposals:
            if isinstance(item.proposal, Add):
                group = Group.join(
                    staged.welcome or b"",
                    self.packages.pop(item.proposal.key_package.leaf_node.signature_key),
                    authenticate=by_roster,
                    ratchet_tree=staged.group.ratchet_tree,
                )
                assert group.epoch_authenticator == staged.group.epoch_authenticator
                self._enter(group)

    def enter_from_outside(self) -> None:
        """Let somebody in by an external commit; a member's lost device takes its own place."""
        host = self._any()
        self.catch_up(host)
        if host.key not in self.members:
            return
        lost = None
        others = [(i, leaf) for i, leaf in host.group.members if i != host.group.own_leaf]
        if others and (not self._room or self.chance.random() < 0.3):
            lost, leaf = self.chance.choice(others)
            own = key_package(leaf.credential.identity.decode())
        elif self._room:
            own = self._newcomer()
        else:
            return
        staged = join_by_external_commit(
            host.group.group_info(external_join=True),
            own,
            authenticate=by_roster,
            proposals=[] if lost is None else [Remove(lost)],
        )
        assert staged.group is not None
        self.log.append(staged.message)
        self._enter(staged.group)

    # -- the device --------------------------------------------------------------------------------

    def restart(self) -> None:
        """Let a device lose its memory: it goes on from what it has saved."""
        member = self._any()
        assert member.store == saved(member.group)
        member.group = member.saved_as = Group.load(member.store)
        assert saved(member.group) == member.store

    def everyone_understands(self) -> None:
        """Hold the walk's invariant."""
        for member in list(self.members.values()):
            self.catch_up(member)
        groups = [member.group for member in self.members.values()]
        assert len({group.epoch_authenticator for group in groups}) == 1
        assert {g.own_leaf for g in groups} == {leaf for leaf, _ in groups[0].members}
        for speaker in self.members.values():
            text = secrets.token_bytes(8)
            group, message = speaker.group.encrypt(text)
            speaker.become(group)
            for other in self.members.values():
                if other is not speaker:
                    group, received = other.group.process(message, authenticate=by_roster)
                    assert isinstance(received, ApplicationMessage)
                    assert received.data == text
                    other.become(group)
            for removed in self.gone:
                with pytest.raises(EpochError):
                    removed.process(message, authenticate=by_roster)
        assert all(member.store == saved(member.group) for member in self.members.values())


def _seed() -> str:
    """Return the walk's seed: one for the ordinary run, a new one for each deeper walk."""
    fresh = "ward" if DEPTH == 1 else secrets.token_hex(4)
    return os.environ.get("WARDLINE_SEED", fresh)


def test_everyone_can_message_everyone_and_the_removed_cannot() -> None:
    seed = _seed()
    chance = random.Random(seed)
    ward = Ward(chance)
    steps: dict[Callable[[], None], int] = {
        ward.send: 30,
        ward.read_one: 40,
        ward.propose: 10,
        ward.commit: 12,
        ward.enter_from_outside: 3,
        ward.restart: 5,
    }
    kinds, weights = list(steps), list(steps.values())
    done = []
    try:
        for number in range(STEPS * DEPTH):
            step = chance.choices(kinds, weights)[0]
            done.append(step.__name__)
            step()
            if number % 25 == 24:
                ward.everyone_understands()
                del ward.gone[:-5]
    except Exception as error:
        error.add_note(f"WARDLINE_SEED={seed} fails at step {len(done)}: {done[-1]}")
        raise
    assert len(ward.members) > 2
    assert ward.gone
