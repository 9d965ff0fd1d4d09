"""What bench/crypto.py measures, for Wardline's own MLS."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import crypto.mls
from bench.report import Value
from crypto.errors import CryptoError
from crypto.mls import Group, KeyPackage, KeyPackageSecrets
from crypto.mls.cipher_suite import X25519_CHACHA20POLY1305_SHA256_ED25519 as SUITE
from crypto.mls.framing import decode_message, encode_message
from crypto.mls.leaf_node import Capabilities, Credential, CredentialType, LeafContent, LeafNode
from crypto.mls.proposal import Add
from crypto.mls.secret_tree import LeafRatchets, Ratchet
from crypto.mls.tree_math import LeafIndex
from tests.vectors.__main__ import run_file

ROOT = Path(__file__).resolve().parents[1]
DAY_S = 86_400
MESSAGES = 200
T = TypeVar("T")


class Figures(dict[str, Value]):
    """Figures by name, each the best of its repeats, in CPU milliseconds."""

    def best(self, name: str, work: Callable[[], T], *, repeats: int, count: int = 1) -> T:
        """Return what ``work`` returned last; note its best time, divided by ``count``."""
        for _ in range(repeats):
            before = time.process_time()
            result = work()
            spent = (time.process_time() - before) * 1000 / count
            self[name] = min(float(self.get(name, spent)), spent)
        return result


def authenticate(leaf: LeafNode, replaced: LeafNode | None) -> None:
    """Accept everybody: what certificates cost is not MLS's, and the peers do the same."""


def client(name: str) -> KeyPackageSecrets:
    """Return a client with a fresh KeyPackage."""
    now = int(time.time())
    content = LeafContent(
        credential=Credential.basic(name.encode()),
        capabilities=Capabilities.of(SUITE, credentials=[CredentialType.BASIC]),
    )
    return KeyPackageSecrets.generate(
        SUITE,
        content,
        signer=SUITE.signature.generate(),
        not_before_s=now - DAY_S,
        not_after_s=now + DAY_S,
    )


@dataclass(frozen=True, slots=True)
class Sent:
    """What a committer has afterwards."""

    group: Group
    commit: bytes
    welcome: bytes


def commit(
    group: Group, key_packages: list[bytes] | None = None, *, with_path: bool = True
) -> Sent:
    """Return the group after a Commit that adds clients by their KeyPackages on the wire."""
    adds = [Add(_key_package(message)) for message in key_packages or []]
    used, staged = group.commit(adds, authenticate=authenticate, with_path=with_path)
    assert staged.group is not None
    return Sent(used.merge(staged.group), staged.message, staged.welcome or b"")


def _key_package(message: bytes) -> KeyPackage:
    body = decode_message(message)
    assert isinstance(body, KeyPackage)
    return body


def create_and_add(owner: KeyPackageSecrets, key_packages: list[bytes]) -> Sent:
    """Return a group with all clients added by one Commit, which leaves the tree cold."""
    return commit(Group.create(owner, group_id=b"bench"), key_packages, with_path=False)


def join(own: KeyPackageSecrets, welcome: bytes) -> Group:
    """Return the group of one who joins."""
    return Group.join(welcome, own, authenticate=authenticate)


def process(group: Group, message: bytes) -> Group:
    """Return the group after somebody's Commit."""
    used, received = group.process(message, authenticate=authenticate)
    assert isinstance(received, crypto.mls.StagedCommit)
    assert received.group is not None
    return used.merge(received.group)


def seat(group: Group, leaf: int, own: KeyPackageSecrets) -> Group:
    """Return what the member at another leaf holds, enough to send a Commit from there.

    The group's secrets are everybody's, the signature key is its own: that saves a thousand joins.
    """
    current = replace(group.current, own_leaf=LeafIndex(leaf), signer=own.signer, private_keys={})
    return replace(group, current=current, past=())


def warmed(group: Group, people: list[KeyPackageSecrets]) -> Group:
    """Return leaf 0's group once each second leaf has committed: every parent node is filled."""
    own = group.current.private_keys
    for leaf in _spread(len(people)):
        if leaf != 0:
            group = commit(seat(group, leaf, people[leaf])).group
    current = seat(group, 0, people[0]).current
    return commit(replace(group, current=replace(current, private_keys=own))).group


def _spread(count: int) -> list[int]:
    """Return all even leaves, far apart first: each Commit then has little to encrypt to."""
    width = (count - 1).bit_length()
    every = (int(f"{number:0{width}b}"[::-1], 2) for number in range(1 << width))
    return [leaf for leaf in every if leaf < count and leaf % 2 == 0]


def measure_group(figures: Figures, *, members: int, repeats: int) -> None:
    """Measure what depends on the size of the group."""
    people = [client(f"m{number}") for number in range(members)]
    packages = [encode_message(one.key_package) for one in people[1:]]
    cold = figures.best(
        "create_and_add", lambda: create_and_add(people[0], packages), repeats=repeats
    )
    figures.best("join_cold", lambda: join(people[-1], cold.welcome), repeats=repeats)
    figures.best("commit_cold", lambda: commit(cold.group), repeats=repeats)
    warm = warmed(cold.group, people)
    late = client("late")
    grown = commit(warm, [encode_message(late.key_package)], with_path=False)
    figures.best("join_warm", lambda: join(late, grown.welcome), repeats=repeats)
    figures.best("commit_warm", lambda: commit(warm), repeats=repeats * 10)
    others = commit(seat(warm, members - 1, people[-1]))
    figures.best("process_warm", lambda: process(warm, others.commit), repeats=repeats * 10)


def pair() -> tuple[Group, Group]:
    """Return a group of two as both hold it."""
    alice, bob = client("alice"), client("bob")
    sent = create_and_add(alice, [encode_message(bob.key_package)])
    return sent.group, join(bob, sent.welcome)


def measure_messages(figures: Figures, *, repeats: int) -> None:
    """Measure application messages of a KiB."""
    groups = list(pair())
    data = bytes(1024)
    sent: list[bytes] = []

    def encrypt() -> None:
        for _ in range(MESSAGES):
            groups[0], message = groups[0].encrypt(data)
            sent.append(message)

    def decrypt() -> None:
        for _ in range(MESSAGES):
            groups[1], _ = groups[1].process(sent.pop(0), authenticate=authenticate)

    figures.best("encrypt_1kib", encrypt, repeats=repeats, count=MESSAGES)
    figures.best("decrypt_1kib", decrypt, repeats=repeats, count=MESSAGES)


def measure_stolen_state(figures: Figures) -> None:
    """Count the messages, read already, that the state saved afterwards opens again.

    Ten messages, of which the first is late. The thief tries the state as it is loaded, and then
    each secret that stands anywhere in the records as the sender's ratchet, at each generation.
    """
    alice, bob = pair()
    messages = []
    for _ in range(10):
        alice, message = alice.encrypt(bytes(16))
        messages.append(message)
    for message in messages[1:]:
        bob, _ = bob.process(message, authenticate=authenticate)
    records = {key: part for key, part in bob.changes(None).items() if part is not None}
    loaded = Group.load(records)
    assert _opens(loaded, messages[0]), "the thief's own tools do not work"
    thieves = [loaded, *_thieves(loaded, b"".join(records.values()))]
    figures["stolen_state"] = sum(
        any(_opens(thief, message) for thief in thieves) for message in messages[1:]
    )


def _thieves(loaded: Group, stolen: bytes) -> Iterator[Group]:
    size, sender = SUITE.hash_bytes, 0
    ends = (at + 1 for at, byte in enumerate(stolen) if byte == size)
    root = loaded.secret_tree.root
    assert isinstance(root, tuple)
    own = root[1 - sender]
    for secret in {stolen[at : at + size] for at in ends if at + size <= len(stolen)}:
        for generation in range(10):
            ratchet = Ratchet(secret=secret, generation=generation)
            ratchets = LeafRatchets(handshake=ratchet, application=ratchet)
            tree = replace(loaded.secret_tree, root=(ratchets, own))
            yield replace(loaded, secret_tree=tree)


def _opens(thief: Group, message: bytes) -> bool:
    try:
        thief.process(message, authenticate=authenticate)
    except CryptoError:
        return False
    return True


def measure_vectors(figures: Figures) -> int | None:
    """Note how many official cases pass; return how many there are, None where they are missing."""
    folder = Path(os.environ.get("WARDLINE_SHARED", ROOT.parent / "shared")) / "data/mls-vectors"
    tallies = [run_file(path) for path in sorted(folder.glob("*.json"))]
    if not tallies:
        return None
    figures["official_vectors"] = sum(one.passed for one in tallies)
    return sum(one.passed + one.refused.total() + one.failed for one in tallies)


def measure(*, members: int, repeats: int) -> Figures:
    """Return all of Wardline's figures but those that need no run."""
    figures = Figures()
    measure_group(figures, members=members, repeats=repeats)
    measure_messages(figures, repeats=repeats * 2)
    measure_stolen_state(figures)
    figures["public_names"] = len(crypto.mls.__all__)
    return figures
