"""The secret tree and its ratchets: one key for each message, each used once (RFC 9420, section 9).

Every value here is immutable and shares what did not change: to use a key is to get a new tree in
which that key no longer is. What the caller then saves holds neither the key nor its ancestors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated

from crypto.codec import U64, Opaque, Reader, Struct, Wire, decode, map_of, opaque, u8, u32
from crypto.errors import InvalidError, KeyUsedError, UsageError
from crypto.hpke import NONCE_BYTES
from crypto.mls import tree_math
from crypto.mls.cipher_suite import CipherSuite
from crypto.mls.tree_math import LeafIndex, NodeIndex

MAX_FORWARD = 1024
"""Generations that a message may be ahead of the last one: bounds the work of one message."""

MAX_SKIPPED = 1024
"""Keys of skipped messages kept for each ratchet; the oldest go first."""

MAX_GENERATION = (1 << 32) - 1
"""Generations are a ``uint32`` (RFC 9420, section 6.3.2)."""

MessageKey = tuple[bytes, bytes]
"""Key and nonce of one message."""


def _read_key(reader: Reader) -> MessageKey:
    return reader.opaque(), reader.opaque()


def _encode_key(key: MessageKey) -> bytes:
    return opaque(key[0]) + opaque(key[1])


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Ratchet(Struct):
    """A hash ratchet: the secret of the next generation, and the keys of those skipped.

    Attributes:
        generation: The next one; after the last it is no ``uint32`` any more.
    """

    secret: Opaque
    generation: U64 = 0
    skipped: Annotated[
        dict[int, MessageKey], map_of(Wire(Reader.u32, u32), Wire(_read_key, _encode_key))
    ] = field(default_factory=dict)

    def check(self, suite: CipherSuite) -> None:
        """Refuse, with ``InvalidError``, a saved ratchet that the suite cannot have made."""
        sizes = {(len(key), len(nonce)) for key, nonce in self.skipped.values()}
        if not sizes <= {(suite.aead.key_bytes, NONCE_BYTES)}:
            raise InvalidError("a saved message key has the wrong length")
        if any(generation >= self.generation for generation in self.skipped):
            raise InvalidError("a saved message key is ahead of its ratchet")
        if self.generation > MAX_GENERATION + 1:
            raise InvalidError("a saved ratchet is beyond its last generation")

    def _key(self, suite: CipherSuite, secret: bytes, generation: int) -> MessageKey:
        """Source: RFC 9420, section 9.1."""
        key = suite.derive_tree_secret(secret, "key", generation, suite.aead.key_bytes)
        return key, suite.derive_tree_secret(secret, "nonce", generation, NONCE_BYTES)

    def take(self, suite: CipherSuite, generation: int) -> tuple[Ratchet, MessageKey]:
        """Return the key of ``generation`` and the ratchet without it.

        The keys of generations passed over are kept, not the secret that would give them all.

        Raises:
            KeyUsedError: The key was used before, or is too old.
            InvalidError: The generation is more than ``MAX_FORWARD`` ahead.
        """
        if generation < self.generation:
            if generation not in self.skipped:
                raise KeyUsedError
            rest = {g: key for g, key in self.skipped.items() if g != generation}
            return replace(self, skipped=rest), self.skipped[generation]
        if generation - self.generation > MAX_FORWARD:
            raise InvalidError("generation is too far ahead (15.3)")
        skipped, secret = self.skipped, self.secret
        if generation > self.generation:
            skipped = dict(skipped)
        for passed in range(self.generation, generation):
            skipped[passed] = self._key(suite, secret, passed)
            secret = suite.derive_tree_secret(secret, "secret", passed, suite.hash_bytes)
        for oldest in list(skipped)[:-MAX_SKIPPED]:
            del skipped[oldest]
        key = self._key(suite, secret, generation)
        secret = suite.derive_tree_secret(secret, "secret", generation, suite.hash_bytes)
        return Ratchet(secret=secret, generation=generation + 1, skipped=skipped), key


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class LeafRatchets(Struct):
    """The two ratchets of a leaf."""

    handshake: Ratchet
    application: Ratchet

    def of(self, *, handshake: bool) -> Ratchet:
        """Return the ratchet for handshake or for application messages."""
        return self.handshake if handshake else self.application

    def with_(self, ratchet: Ratchet, *, handshake: bool) -> LeafRatchets:
        """Return the pair with one ratchet replaced."""
        if handshake:
            return LeafRatchets(handshake=ratchet, application=self.application)
        return LeafRatchets(handshake=self.handshake, application=ratchet)


SecretNode = bytes | LeafRatchets | tuple["SecretNode", "SecretNode"]
"""A secret not yet used, a leaf in use, or the two halves below a secret that is gone."""

_SECRET = 0
_RATCHETS = 1


def encode_secret_node(node: bytes | LeafRatchets) -> bytes:
    """Return bytes for the owner's encrypted store."""
    if isinstance(node, bytes):
        return u8(_SECRET) + opaque(node)
    return u8(_RATCHETS) + node.encode()


def decode_secret_node(data: bytes, *, leaf: bool) -> bytes | LeafRatchets:
    """Decode what ``encode_secret_node`` gave; ``DecodeError`` for anything else."""
    node = decode(data, "SecretNode", _read_secret_node)
    if isinstance(node, LeafRatchets) and not leaf:
        raise InvalidError("ratchets above a leaf of the secret tree")
    return node


def _read_secret_node(reader: Reader) -> bytes | LeafRatchets:
    kind = reader.u8()
    if kind == _SECRET:
        return reader.opaque()
    if kind == _RATCHETS:
        return LeafRatchets.read(reader)
    raise reader.fail()


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SecretTree:
    """The secrets of an epoch that are not used yet (RFC 9420, section 9)."""

    suite: CipherSuite
    leaf_count: int
    root: SecretNode

    def take(
        self, leaf: LeafIndex, generation: int, *, handshake: bool
    ) -> tuple[SecretTree, MessageKey]:
        """Return the key of one message, and the tree without it.

        Raises:
            KeyUsedError: The key was used before, or is too old.
            InvalidError: The generation is more than ``MAX_FORWARD`` ahead.
        """
        ratchets, siblings = self._descend(leaf)
        return self._take(leaf, generation, ratchets, siblings, handshake=handshake)

    def next(self, leaf: LeafIndex, *, handshake: bool) -> tuple[SecretTree, int, MessageKey]:
        """Return the tree without the key of the next message of ``leaf``, its generation, it.

        Raises:
            UsageError: Every generation of the epoch is used; commit first.
        """
        ratchets, siblings = self._descend(leaf)
        generation = ratchets.of(handshake=handshake).generation
        if generation > MAX_GENERATION:
            raise UsageError("every generation of this epoch is used")
        tree, key = self._take(leaf, generation, ratchets, siblings, handshake=handshake)
        return tree, generation, key

    def _take(
        self,
        leaf: LeafIndex,
        generation: int,
        ratchets: LeafRatchets,
        siblings: list[SecretNode],
        *,
        handshake: bool,
    ) -> tuple[SecretTree, MessageKey]:
        ratchet, key = ratchets.of(handshake=handshake).take(self.suite, generation)
        return self._ascend(leaf, siblings, ratchets.with_(ratchet, handshake=handshake)), key

    def _descend(self, leaf: LeafIndex) -> tuple[LeafRatchets, list[SecretNode]]:
        """Return the ratchets of ``leaf`` and the siblings on the way, expanding as needed."""
        siblings: list[SecretNode] = []
        node = self.root
        for height in reversed(range(self._height)):
            left, right = node if isinstance(node, tuple) else self._expand(node)
            sibling, node = (left, right) if leaf >> height & 1 else (right, left)
            siblings.append(sibling)
        return node if isinstance(node, LeafRatchets) else self._start(node), siblings

    def _ascend(
        self, leaf: LeafIndex, siblings: list[SecretNode], ratchets: LeafRatchets
    ) -> SecretTree:
        """Return the tree with new ratchets at ``leaf``; no secret above them is left in it."""
        node: SecretNode = ratchets
        for height, sibling in enumerate(reversed(siblings)):
            node = (sibling, node) if leaf >> height & 1 else (node, sibling)
        return SecretTree(suite=self.suite, leaf_count=self.leaf_count, root=node)

    @property
    def _height(self) -> int:
        return self.leaf_count.bit_length() - 1

    def _expand(self, node: SecretNode) -> tuple[SecretNode, SecretNode]:
        """Source: RFC 9420, section 9."""
        assert isinstance(node, bytes)  # noqa: S101 - ratchets stand at leaves only
        expand, size = self.suite.expand_with_label, self.suite.hash_bytes
        return expand(node, "tree", b"left", size), expand(node, "tree", b"right", size)

    def _start(self, node: SecretNode) -> LeafRatchets:
        """Source: RFC 9420, section 9.1."""
        assert isinstance(node, bytes)  # noqa: S101 - a leaf has no halves
        expand, size = self.suite.expand_with_label, self.suite.hash_bytes
        return LeafRatchets(
            handshake=Ratchet(secret=expand(node, "handshake", b"", size)),
            application=Ratchet(secret=expand(node, "application", b"", size)),
        )

    # -- parts, for a store that saves only what changed ---------------------------------------

    def changes(self, since: SecretTree | None) -> dict[NodeIndex, bytes | None]:
        """Return what to save, by node, to come from ``since`` to here; None is to be deleted.

        Args:
            since: An earlier state of the same epoch, or None for all of this one.
        """
        root = tree_math.root(self.leaf_count)
        return dict(_changed(root, self.root, None if since is None else since.root))

    @classmethod
    def from_parts(
        cls, suite: CipherSuite, leaf_count: int, parts: Mapping[NodeIndex, bytes]
    ) -> SecretTree:
        """Return the tree whose ``changes`` gave ``parts``.

        Raises:
            DecodeError: A part is no encoding of one.
            InvalidError: A part is missing, or is not one of the suite's.
        """

        def build(index: NodeIndex) -> SecretNode:
            if index in parts:
                node = decode_secret_node(parts[index], leaf=index % 2 == 0)
                if isinstance(node, LeafRatchets):
                    node.handshake.check(suite)
                    node.application.check(suite)
                return node
            if index % 2 == 0:
                raise InvalidError("a part of the secret tree is missing")
            return build(tree_math.left(index)), build(tree_math.right(index))

        root = build(tree_math.root(leaf_count))
        return cls(suite=suite, leaf_count=leaf_count, root=root)


def _changed(
    index: NodeIndex, node: SecretNode, before: SecretNode | None
) -> Iterator[tuple[NodeIndex, bytes | None]]:
    if node is before:
        return
    if not isinstance(node, tuple):
        yield index, encode_secret_node(node)
        return
    if isinstance(before, bytes):
        yield index, None  # expanded since: its secret must go from the store, too
    halves = before if isinstance(before, tuple) else (None, None)
    yield from _changed(tree_math.left(index), node[0], halves[0])
    yield from _changed(tree_math.right(index), node[1], halves[1])
