"""Wardline's MLS behind the same few verbs that tests/interop/ts_mls.py gives ts-mls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from crypto.errors import InvalidError
from crypto.mls.cipher_suite import CipherSuite, cipher_suite
from crypto.mls.external import join_by_external_commit
from crypto.mls.framing import decode_message, encode_message
from crypto.mls.group import ApplicationMessage, Group, StagedCommit
from crypto.mls.key_package import KeyPackage
from crypto.mls.key_package_secrets import KeyPackageSecrets
from crypto.mls.leaf_node import Capabilities, Credential, CredentialType, LeafContent, LeafNode
from crypto.mls.proposal import Add, Remove
from crypto.mls.tree_math import LeafIndex
from tests.interop.ts_mls import Status

ALWAYS = (0, (1 << 63) - 1)


def authenticate(leaf: LeafNode, replaced: LeafNode | None) -> None:
    """Accept basic credentials; whoever takes a place keeps the name."""
    if leaf.credential.credential_type is not CredentialType.BASIC:
        raise InvalidError("basic credentials only")
    if replaced is not None and replaced.credential != leaf.credential:
        raise InvalidError("the name changes")


@dataclass(kw_only=True)
class Client:
    """One client of Wardline. Messages are whole MLSMessages."""

    name: str
    secrets: KeyPackageSecrets
    group: Group | None = None
    removed: bool = False

    @classmethod
    def make(cls, name: str, *, suite: int) -> Self:
        """Return a new client with a fresh KeyPackage."""
        chosen = cipher_suite(suite)
        secrets = KeyPackageSecrets.generate(
            chosen,
            content(chosen, name),
            signer=chosen.signature.generate(),
            not_before_s=ALWAYS[0],
            not_after_s=ALWAYS[1],
        )
        return cls(name=name, secrets=secrets)

    @property
    def key_package(self) -> bytes:
        """The KeyPackage."""
        return encode_message(self.secrets.key_package)

    def create(self, group_id: bytes) -> None:
        """Create a group with this client alone."""
        self.group = Group.create(self.secrets, group_id=group_id)

    def join(self, welcome: bytes) -> None:
        """Join by a Welcome that holds the tree."""
        self.group = Group.join(welcome, self.secrets, authenticate=authenticate)

    def external_join(self, group_info: bytes) -> bytes:
        """Join by an external Commit; return it."""
        staged = join_by_external_commit(group_info, self.secrets, authenticate=authenticate)
        self.group = staged.group
        return staged.message

    def commit(
        self, *, add: list[bytes] | None = None, remove: list[int] | None = None
    ) -> tuple[bytes, bytes | None]:
        """Commit with a path and apply; return the Commit and, for those added, the Welcome."""
        proposals = [Remove(LeafIndex(index)) for index in remove or []]
        adds = [Add(_key_package(message)) for message in add or []]
        group, staged = self._group.commit([*proposals, *adds], authenticate=authenticate)
        assert staged.group is not None
        self.group = group.merge(staged.group)
        return staged.message, staged.welcome

    def process(self, message: bytes) -> None:
        """Apply somebody's Commit."""
        group, received = self._group.process(message, authenticate=authenticate)
        assert isinstance(received, StagedCommit)
        if received.group is None:
            self.removed = True
        else:
            self.group = group.merge(received.group)

    def active(self) -> bool:
        """Return False once the client was removed."""
        return not self.removed

    def encrypt(self, data: bytes, *, authenticated_data: bytes) -> bytes:
        """Return an application message."""
        self.group, message = self._group.encrypt(data, authenticated_data=authenticated_data)
        return message

    def decrypt(self, message: bytes) -> tuple[bytes, bytes]:
        """Return an application message's data and authenticated data."""
        self.group, received = self._group.process(message, authenticate=authenticate)
        assert isinstance(received, ApplicationMessage)
        return received.data, received.authenticated_data

    def export(self, label: str, *, context: bytes, length: int) -> bytes:
        """Return an exported secret of the present epoch."""
        return self._group.export(label, context, length)

    def group_info(self) -> bytes:
        """Return a GroupInfo by which a stranger can join."""
        return self._group.group_info(external_join=True)

    def leaf_index(self) -> int:
        """Return the client's own leaf."""
        return self._group.own_leaf

    def status(self) -> Status:
        """Return what the client holds of its group."""
        context = self._group.context
        return Status(
            epoch=context.epoch,
            members=len(self._group.members),
            epoch_authenticator=self._group.epoch_authenticator,
            tree_hash=context.tree_hash,
            confirmed_transcript_hash=context.confirmed_transcript_hash,
        )

    @property
    def _group(self) -> Group:
        assert self.group is not None
        return self.group


def content(suite: CipherSuite, name: str) -> LeafContent:
    """Return what a client says of itself."""
    return LeafContent(
        credential=Credential.basic(name.encode()),
        capabilities=Capabilities.of(suite, credentials=[CredentialType.BASIC]),
    )


def _key_package(message: bytes) -> KeyPackage:
    key_package = decode_message(message)
    assert isinstance(key_package, KeyPackage)
    return key_package
