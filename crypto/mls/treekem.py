"""TreeKEM: new keys along a member's path, encrypted to everyone else (RFC 9420, 7.4 to 7.6)."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from crypto.errors import InvalidError
from crypto.mls import tree_math
from crypto.mls.cipher_suite import CipherSuite, Signer
from crypto.mls.leaf_node import LeafContent, sign_leaf_node
from crypto.mls.proposal import HPKECiphertext, UpdatePath, UpdatePathNode
from crypto.mls.ratchet_tree import ParentNode, RatchetTree
from crypto.mls.tree_math import LeafIndex, NodeIndex

PrivateKeys = Mapping[NodeIndex, bytes]
"""HPKE private keys of nodes on the holder's own path, its leaf included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPath:
    """What the maker of a path keeps: secrets by node, bottom up, and the private keys."""

    leaf: LeafIndex
    nodes: tuple[tuple[NodeIndex, NodeIndex], ...]
    path_secrets: tuple[bytes, ...] = field(repr=False)
    commit_secret: bytes = field(repr=False)
    private_keys: PrivateKeys = field(repr=False)

    def secret_for(self, joiner: LeafIndex) -> bytes:
        """Return the path secret of the lowest node above both (RFC 9420, section 12.4.3.1)."""
        ancestor = tree_math.common_ancestor(self.leaf, joiner)
        at = [node for node, _ in self.nodes].index(ancestor)
        return self.path_secrets[at]


def _derive_up(suite: CipherSuite, path_secret: bytes, steps: int) -> list[bytes]:
    """Return ``path_secret`` and its successors, ``steps`` in all, and the commit secret after."""
    chain = [path_secret]
    for _ in range(steps):
        chain.append(suite.derive_secret(chain[-1], "path"))
    return chain


def _node_key_pair(suite: CipherSuite, path_secret: bytes) -> tuple[bytes, bytes]:
    return suite.hpke.derive_key_pair(suite.derive_secret(path_secret, "node"))


def _set_path(
    tree: RatchetTree,
    leaf: LeafIndex,
    path: Sequence[tuple[NodeIndex, NodeIndex]],
    public_keys: Sequence[bytes],
) -> bytes:
    """Put new keys on the path, blank the rest of it, and return the leaf's parent hash.

    Parent hashes go from the root down, each over those above it; a root's is empty (7.9).
    """
    tree.blank_path(leaf)
    parent_hash = b""
    for (node, sibling), key in zip(reversed(path), reversed(public_keys), strict=True):
        tree.set(node, ParentNode(key, parent_hash, ()))
        parent_hash = tree.parent_hash(node, sibling)
    return parent_hash


def create_path(
    tree: RatchetTree, leaf: LeafIndex, content: LeafContent, *, signer: Signer, group_id: bytes
) -> NewPath:
    """Give ``leaf`` and its path in ``tree`` new keys; nothing is encrypted yet.

    The order is the RFC's, and each step needs the one before: blank, keys, parent hashes, leaf.
    Only then is the tree hash known under which the path secrets are encrypted.

    Source: RFC 9420, section 7.5.
    """
    suite = tree.suite
    path = tree.filtered_direct_path(leaf)
    leaf_private, leaf_public = suite.hpke.generate_key_pair()
    chain = _derive_up(suite, secrets.token_bytes(suite.hash_bytes), len(path))
    pairs = [_node_key_pair(suite, path_secret) for path_secret in chain[:-1]]
    parent_hash = _set_path(tree, leaf, path, [public for _, public in pairs])
    leaf_node = sign_leaf_node(
        suite,
        content,
        signer=signer,
        encryption_key=leaf_public,
        source=parent_hash,
        position=(group_id, leaf),
    )
    tree.set(tree_math.leaf_node(leaf), leaf_node)
    keys = {node: private for (node, _), (private, _) in zip(path, pairs, strict=True)}
    keys[tree_math.leaf_node(leaf)] = leaf_private
    return NewPath(
        leaf=leaf,
        nodes=tuple(path),
        path_secrets=tuple(chain[:-1]),
        commit_secret=chain[-1],
        private_keys=keys,
    )


def _recipients(
    tree: RatchetTree, child: NodeIndex, added: frozenset[NodeIndex]
) -> list[NodeIndex]:
    """Return who gets a path secret: the resolution without leaves of the same Commit (7.6)."""
    return [node for node in tree.resolution(child) if node not in added]


def encrypt_path(
    tree: RatchetTree, path: NewPath, *, context: bytes, added: frozenset[NodeIndex]
) -> UpdatePath:
    """Encrypt the path secrets to everyone but the leaves ``added`` in the same Commit.

    Args:
        tree: As ``create_path`` left it.
        path: As ``create_path`` gave it.
        context: Encoding of the provisional GroupContext.
        added: Nodes of the leaves that the same Commit adds.

    Source: RFC 9420, section 7.6.
    """
    suite = tree.suite
    nodes = []
    for (node, child), path_secret in zip(path.nodes, path.path_secrets, strict=True):
        sealed = []
        for recipient in _recipients(tree, child, added):
            key = _encryption_key(tree, recipient)
            pair = suite.encrypt_with_label(key, "UpdatePathNode", context, path_secret)
            sealed.append(HPKECiphertext(*pair))
        nodes.append(UpdatePathNode(_encryption_key(tree, node), tuple(sealed)))
    leaf_node = tree.leaf(path.leaf)
    assert leaf_node is not None  # noqa: S101 - create_path has just set it
    return UpdatePath(leaf_node, tuple(nodes))


def _encryption_key(tree: RatchetTree, index: NodeIndex) -> bytes:
    node = tree.nodes[index]
    assert node is not None  # noqa: S101 - a resolution and a path have no blank
    return node.encryption_key


def apply_path(tree: RatchetTree, sender: LeafIndex, path: UpdatePath) -> None:
    """Merge a received path into ``tree``.

    Raises:
        InvalidError: The path has another length than the sender's filtered direct path, or its
            leaf commits to other parents.

    Source: RFC 9420, section 7.5.
    """
    nodes = tree.filtered_direct_path(sender)
    if len(nodes) != len(path.nodes):
        raise InvalidError("UpdatePath has the wrong number of nodes (12.4.2)")
    parent_hash = _set_path(tree, sender, nodes, [node.encryption_key for node in path.nodes])
    if path.leaf_node.parent_hash != parent_hash:
        raise InvalidError("parent_hash of the UpdatePath's leaf differs (7.9.2)")
    tree.set(tree_math.leaf_node(sender), path.leaf_node)


def decrypt_path(
    tree: RatchetTree,
    sender: LeafIndex,
    path: UpdatePath,
    *,
    own: tuple[LeafIndex, PrivateKeys],
    context: bytes,
    added: frozenset[NodeIndex],
) -> tuple[bytes, PrivateKeys]:
    """Return the commit secret and the new private keys that a received path gives a member.

    Args:
        tree: As ``apply_path`` left it.
        sender: The committer.
        path: What it sent.
        own: The member's leaf and its private keys from before the Commit.
        context: Encoding of the provisional GroupContext.
        added: Nodes of the leaves that the same Commit adds.

    Raises:
        InvalidError: A node has the wrong number of ciphertexts, or a path secret gives another
            public key than the path says.
        VerificationError: The path secret does not open.

    Source: RFC 9420, section 7.5.
    """
    leaf, private_keys = own
    nodes = tree.filtered_direct_path(sender)
    recipients = [_recipients(tree, child, added) for _, child in nodes]
    for expected, node in zip(recipients, path.nodes, strict=True):
        if len(expected) != len(node.encrypted_path_secret):
            raise InvalidError("UpdatePathNode has the wrong number of ciphertexts (7.6)")
    start = next(i for i, (_, child) in enumerate(nodes) if tree_math.is_below(leaf, child))
    recipient = next((node for node in recipients[start] if node in private_keys), None)
    if recipient is None:
        raise InvalidError("no private key for any recipient of the path (7.5)")
    sealed = path.nodes[start].encrypted_path_secret[recipients[start].index(recipient)]
    path_secret = tree.suite.decrypt_with_label(
        (private_keys[recipient], _encryption_key(tree, recipient)),
        "UpdatePathNode",
        context,
        (sealed.kem_output, sealed.ciphertext),
    )
    return derive_private_keys(tree, [node for node, _ in nodes[start:]], path_secret)


def derive_private_keys(
    tree: RatchetTree, nodes: Sequence[NodeIndex], path_secret: bytes
) -> tuple[bytes, PrivateKeys]:
    """Return the commit secret and the private keys of ``nodes``, from the lowest's path secret.

    Raises:
        InvalidError: A derived public key is not that of the tree (12.4.2, 12.4.3.1).
    """
    suite = tree.suite
    chain = _derive_up(suite, path_secret, len(nodes))
    keys: dict[NodeIndex, bytes] = {}
    for node, secret in zip(nodes, chain, strict=False):
        private, public = _node_key_pair(suite, secret)
        parent = tree.parent(node)
        if parent is None or parent.encryption_key != public:
            raise InvalidError("path secret gives another public key (12.4.2)")
        keys[node] = private
    return chain[-1], keys


def surviving_keys(
    private_keys: PrivateKeys, before: RatchetTree, after: RatchetTree
) -> dict[NodeIndex, bytes]:
    """Return those private keys whose nodes the Commit left as they were (7.5: delete the rest)."""

    def same(index: NodeIndex) -> bool:
        old = before.nodes[index]
        new = after.nodes[index] if index < len(after.nodes) else None
        return old is not None and new is not None and old.encryption_key == new.encryption_key

    return {index: key for index, key in private_keys.items() if same(index)}
