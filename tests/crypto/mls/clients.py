"""Clients that know only their name: for tests in which credentials are not the point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from crypto.mls import Add, Capabilities, Credential, Group, KeyPackageSecrets, LeafContent
from crypto.mls.cipher_suite import X25519_CHACHA20POLY1305_SHA256_ED25519 as SUITE
from crypto.mls.framing import Content, WireFormat
from crypto.mls.leaf_node import Extensions, LeafNode
from crypto.mls.messages import protect, sign


def accept(leaf: LeafNode, replaced: LeafNode | None) -> None:
    """Find every credential good."""


def key_package(name: str, extensions: Extensions = ()) -> KeyPackageSecrets:
    return KeyPackageSecrets.generate(
        SUITE,
        LeafContent(
            credential=Credential.basic(name.encode()),
            capabilities=Capabilities.of(SUITE, credentials=(1,)),
        ),
        signer=SUITE.signature.generate(),
        not_before_s=0,
        not_after_s=1 << 40,
        extensions=extensions,
    )


def admit(group: Group, names: Sequence[str]) -> list[Group]:
    """Return the group with those of ``names`` in it, and theirs."""
    owns = [key_package(name) for name in names]
    _, staged = group.commit([Add(own.key_package) for own in owns], authenticate=accept)
    assert staged.group is not None
    assert staged.welcome is not None
    joined = [Group.join(staged.welcome, own, authenticate=accept) for own in owns]
    return [group.merge(staged.group), *joined]


def assemble(*names: str) -> list[Group]:
    """Return the groups of ``names``, at leaves 0, 1, 2, ..."""
    return admit(Group.create(key_package(names[0]), group_id=b"ward 7"), names[1:])


def saved(group: Group) -> dict[str, bytes]:
    return {key: data for key, data in group.changes(None).items() if data is not None}


def publish(group: Group, content: Content, *, tag: bytes | None = None) -> bytes:
    """Return any content as its member's PublicMessage, whatever the rules say about it."""
    public = WireFormat.PUBLIC_MESSAGE
    message = sign(group, content, authenticated_data=b"", wire_format=public)
    return protect(group, replace(message, confirmation_tag=tag))[1]
