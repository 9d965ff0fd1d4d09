"""What bench/crypto.py measures, for PyPI's rfc9420: one JSON object on stdout, figure by name.

It runs in the environment that ``make bench-crypto`` makes for it alone. Times are CPU
milliseconds, the best of the repeats. A figure that the package refuses is its error's text.

Usage: python crypto_rfc9420.py '{"members": 1000, "repeats": 3}'
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import rfc9420
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from rfc9420 import DefaultCryptoProvider, ProtocolMLSGroup
from rfc9420.extensions.extensions import build_capabilities_data
from rfc9420.messages.data_structures import (
    CipherSuite,
    Credential,
    Sender,
    SenderType,
    Signature,
    Welcome,
)
from rfc9420.messages.key_packages import KeyPackage, LeafNode
from rfc9420.messages.messages import MLSCiphertext, MLSPlaintext

SUITE = 3
CRYPTO = DefaultCryptoProvider(SUITE)
DAY_S = 86_400
figures: dict[str, Any] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A KeyPackage on the wire with its three private keys."""

    key_package: bytes
    init_key: bytes
    encryption_key: bytes
    signature_key: bytes


def person(name: str) -> Person:
    """Return a client with a fresh KeyPackage."""
    init, encryption = X25519PrivateKey.generate(), X25519PrivateKey.generate()
    signer = Ed25519PrivateKey.generate()
    public, now = signer.public_key().public_bytes_raw(), int(time.time())
    leaf = LeafNode(
        encryption_key=encryption.public_key().public_bytes_raw(),
        signature_key=public,
        capabilities=build_capabilities_data([1, SUITE], [], include_grease=False),
        credential=Credential(identity=name.encode(), public_key=public),
        lifetime_not_before=now - DAY_S,
        lifetime_not_after=now + DAY_S,
    )
    secret = signer.private_bytes_raw()
    signature = CRYPTO.sign_with_label(secret, b"LeafNodeTBS", leaf.tbs_serialize())
    suite = CipherSuite.deserialize(SUITE.to_bytes(2, "big"))
    package = KeyPackage(
        cipher_suite=suite,
        init_key=init.public_key().public_bytes_raw(),
        leaf_node=replace(leaf, signature=Signature(signature)),
    )
    signature = CRYPTO.sign_with_label(secret, b"KeyPackageTBS", package.tbs_serialize())
    return Person(
        key_package=replace(package, signature=Signature(signature)).serialize(),
        init_key=init.private_bytes_raw(),
        encryption_key=encryption.private_bytes_raw(),
        signature_key=secret,
    )


def best(name: str, work: Callable[[], Any], *, repeats: int, count: int = 1) -> Any:
    """Return what ``work`` returns; note its best time, divided by ``count``, or the refusal."""
    result = None
    for _ in range(repeats):
        before = time.process_time()
        try:
            result = work()
        except Exception as error:
            figures[name] = f"refused: {error}"
            return None
        spent = (time.process_time() - before) * 1000 / count
        figures[name] = min(figures.get(name, spent), spent)
    return result


def create(owner: Person) -> Any:
    """Return a group of one."""
    return ProtocolMLSGroup.create(b"bench", KeyPackage.deserialize(owner.key_package), CRYPTO)


def create_and_add(owner: Person, others: list[Person]) -> tuple[Any, bytes]:
    """Return the group with everybody added by one Commit, and the Welcome."""
    group = create(owner)
    for other in others:
        proposal = group.create_add_proposal(
            KeyPackage.deserialize(other.key_package), owner.signature_key
        )
        group.process_proposal(proposal, Sender(0, SenderType.MEMBER))
    pending = group.create_commit(owner.signature_key)
    group.apply_own_commit(pending)
    return group, pending.welcomes[0].serialize()


def join(one: Person, welcome: bytes) -> Any:
    """Return the group of one who joins by a Welcome."""
    return ProtocolMLSGroup.from_welcome(
        Welcome.deserialize(welcome),
        one.init_key,
        CRYPTO,
        key_package=KeyPackage.deserialize(one.key_package),
        encryption_private_key=one.encryption_key,
    )


def measure_group(members: int, repeats: int) -> None:
    """Measure what depends on the size of the group."""
    people = [person(f"m{number}") for number in range(members)]
    made = best("create_and_add", lambda: create_and_add(people[0], people[1:]), repeats=1)
    if made is None:
        return
    group, welcome = made
    last = best("join_cold", lambda: join(people[-1], welcome), repeats=repeats)
    commit = best("commit_cold", lambda: group.create_commit(people[0].signature_key), repeats=1)
    if last is None or commit is None:
        return
    message = commit.commit_message.serialize()
    received = best(
        "process_cold", lambda: last.process_commit(MLSPlaintext.deserialize(message), 0), repeats=1
    )
    if received is None and isinstance(figures["process_cold"], str):
        # No Commit of its own is accepted by its own members, so that no group of its gets warm.
        figures["commit_cold"] = figures["commit_warm"] = "invalid"
        figures["process_warm"] = figures["process_cold"]


def pair() -> tuple[Any, Person, Any]:
    """Return a group of two as both hold it, with the first one's keys."""
    alice, bob = person("alice"), person("bob")
    group, welcome = create_and_add(alice, [bob])
    return group, alice, join(bob, welcome)


def measure_messages(repeats: int, count: int = 200) -> None:
    """Measure application messages of a KiB."""
    group, alice, other = pair()
    sent: list[list[bytes]] = []

    def encrypt() -> None:
        sent.append(
            [group.protect(bytes(1024), alice.signature_key).serialize() for _ in range(count)]
        )

    def decrypt() -> None:
        for message in sent.pop(0):
            other.unprotect(MLSCiphertext.deserialize(message))

    best("encrypt_1kib", encrypt, repeats=repeats, count=count)
    best("decrypt_1kib", decrypt, repeats=repeats, count=count)


def measure_stolen_state() -> None:
    """Count the messages, read already, that the state saved afterwards opens again."""
    group, alice, other = pair()
    messages = [group.protect(bytes(16), alice.signature_key).serialize() for _ in range(10)]
    for message in messages[1:]:
        other.unprotect(MLSCiphertext.deserialize(message))
    stolen, opened = other.to_bytes(), 0
    for message in messages[1:]:
        try:
            ProtocolMLSGroup.from_bytes(stolen, CRYPTO).unprotect(
                MLSCiphertext.deserialize(message)
            )
        except Exception:  # Refused, whatever its class, as it should be.
            continue
        opened += 1
    figures["stolen_state"] = opened


def main() -> None:
    """Measure all and print it."""
    wanted = json.loads(sys.argv[1])
    measure_group(wanted["members"], wanted["repeats"])
    measure_messages(wanted["repeats"])
    measure_stolen_state()
    figures["public_names"] = len(rfc9420.__all__)
    print(json.dumps(figures))


main()
