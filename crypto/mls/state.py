"""A group's state as records, so that a client saves what changed and no more.

Keys are ``epoch``; ``node/<index>`` for the tree; ``secret/<epoch>/<node>`` for what is left of the
message keys; ``past/<epoch>``; ``proposal/<place>``. One message changes a ``secret`` record or a
few, whatever the group's size; a Commit changes a path of nodes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from crypto.codec import Reader, decode, opaque, optional, u32, u64, vector
from crypto.errors import InvalidError
from crypto.mls.cipher_suite import CipherSuite, cipher_suite
from crypto.mls.commit import Pending, PendingProposals
from crypto.mls.epoch import Epoch, PastEpoch
from crypto.mls.framing import Sender
from crypto.mls.group_info import GroupContext
from crypto.mls.key_schedule import EpochSecrets
from crypto.mls.leaf_node import LeafNode
from crypto.mls.proposal import encode_proposal, read_proposal
from crypto.mls.ratchet_tree import MAX_LEAVES, Node, RatchetTree, encode_node, read_node
from crypto.mls.secret_tree import SecretTree
from crypto.mls.tree_math import LeafIndex, NodeIndex
from crypto.mls.validation import SentProposal

Records = Mapping[str, bytes]
Changes = dict[str, bytes | None]

_EPOCH = "epoch"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class GroupState:
    """All that a group consists of; ``Group`` says what the attributes are."""

    current: Epoch
    secret_tree: SecretTree
    past: tuple[PastEpoch, ...] = ()
    pending: PendingProposals = field(default_factory=dict)

    @property
    def group_id(self) -> bytes:
        """The group's id."""
        return self.current.context.group_id

    @property
    def epoch(self) -> int:
        """The present epoch."""
        return self.current.context.epoch

    @property
    def own_leaf(self) -> LeafIndex:
        """This member's place in the tree."""
        return self.current.own_leaf

    @property
    def secret_trees(self) -> dict[int, SecretTree]:
        """The secret tree of each epoch that is still readable."""
        trees = {past.number: past.secret_tree for past in self.past}
        return {self.current.context.epoch: self.secret_tree, **trees}

    def changes(self, since: GroupState | None) -> Changes:
        """Return the records to write to come from ``since`` to here; None deletes one."""
        changes: Changes = {}
        if since is None or self.current is not since.current:
            changes[_EPOCH] = _encode_epoch(self.current)
            changes.update(_node_changes(self.current.tree, since.current.tree if since else None))
        old_trees = since.secret_trees if since else {}
        for number in old_trees.keys() - self.secret_trees.keys():
            for node in old_trees[number].changes(None):
                changes[f"secret/{number}/{node}"] = None
        for number, tree in self.secret_trees.items():
            for node, record in tree.changes(old_trees.get(number)).items():
                changes[f"secret/{number}/{node}"] = record
        changes.update(_item_changes("past", _past_items(self), _past_items(since)))
        changes.update(_item_changes("proposal", _pending_items(self), _pending_items(since)))
        return changes


def _node_changes(
    tree: RatchetTree, before: RatchetTree | None
) -> Iterator[tuple[str, bytes | None]]:
    old = before.nodes if before else []
    for index in range(max(len(tree.nodes), len(old))):
        node = tree.nodes[index] if index < len(tree.nodes) else None
        was = old[index] if index < len(old) else None
        if node is not was:
            yield f"node/{index}", encode_node(node) if node else None


def _item_changes(
    kind: str, items: Mapping[str, bytes], before: Mapping[str, bytes]
) -> Iterator[tuple[str, bytes | None]]:
    for key in items.keys() | before.keys():
        if items.get(key) != before.get(key):
            yield f"{kind}/{key}", items.get(key)


def _past_items(state: GroupState | None) -> dict[str, bytes]:
    return {str(past.number): _encode_past(past) for past in state.past} if state else {}


def _pending_items(state: GroupState | None) -> dict[str, bytes]:
    if state is None:
        return {}
    items = state.pending.items()
    return {str(place): _encode_pending(ref, item) for place, (ref, item) in enumerate(items)}


def _encode_epoch(epoch: Epoch) -> bytes:
    keys = (u32(node) + opaque(key) for node, key in epoch.private_keys.items())
    return b"".join(
        (
            opaque(epoch.encoded_context),
            u32(epoch.tree.leaf_count),
            epoch.secrets.encode(),
            opaque(epoch.follows),
            opaque(epoch.interim_transcript_hash),
            opaque(epoch.confirmation_tag),
            u32(epoch.own_leaf),
            opaque(epoch.signer.seed),
            vector(keys),
        )
    )


def _encode_past(past: PastEpoch) -> bytes:
    replaced = (
        u32(leaf) + optional(node.encode() if node else None)
        for leaf, node in past.replaced.items()
    )
    return b"".join(
        (
            u64(past.number),
            opaque(past.encoded_context),
            opaque(past.sender_data_secret),
            opaque(past.resumption_psk),
            u32(past.secret_tree.leaf_count),
            vector(replaced),
        )
    )


def _encode_pending(reference: bytes, pending: Pending) -> bytes:
    sent = pending.sent
    key, signer = pending.encryption_key, pending.signer
    return b"".join(
        (
            opaque(reference),
            sent.sender.encode(),
            encode_proposal(sent.proposal),
            optional(None if key is None else opaque(key)),
            optional(None if signer is None else opaque(signer.seed)),
        )
    )


def load(records: Records) -> GroupState:
    """Return the state that ``changes(None)`` and later changes have saved.

    Raises:
        DecodeError: A record is malformed.
        InvalidError: Records are missing, or do not belong together.
    """
    if _EPOCH not in records:
        raise InvalidError("the epoch's record is missing")
    reader = Reader(records[_EPOCH], "Epoch")
    encoded = reader.opaque()
    context = decode(encoded, "GroupContext", GroupContext.read)
    suite = cipher_suite(context.cipher_suite)
    tree = _load_tree(suite, records, _leaf_count(reader))
    if tree.tree_hash() != context.tree_hash:
        raise InvalidError("the saved tree is not that of the saved GroupContext")
    epoch = Epoch(
        suite=suite,
        context=context,
        encoded_context=encoded,
        tree=tree,
        secrets=EpochSecrets.read(reader),
        follows=reader.opaque(),
        interim_transcript_hash=reader.opaque(),
        confirmation_tag=reader.opaque(),
        own_leaf=LeafIndex(reader.u32()),
        signer=suite.signature.load(reader.opaque()),
        private_keys=dict(reader.vector(lambda r: (NodeIndex(r.u32()), r.opaque()))),
    )
    reader.finish()
    if tree.leaf(epoch.own_leaf) is None:
        raise InvalidError("the saved tree has no leaf for its holder")
    past = [_load_past(suite, records, data) for data in _items(records, "past")]
    pending = [_load_pending(suite, data) for data in _items(records, "proposal")]
    return GroupState(
        current=epoch,
        secret_tree=_load_secret_tree(suite, records, context.epoch, tree.leaf_count),
        past=tuple(reversed(past)),
        pending=dict(pending),
    )


def _leaf_count(reader: Reader) -> int:
    count = reader.u32()
    if not 0 < count <= MAX_LEAVES or count & (count - 1):
        raise reader.fail()
    return count


def _load_tree(suite: CipherSuite, records: Records, leaf_count: int) -> RatchetTree:
    nodes: list[Node | None] = []
    for index in range(2 * leaf_count - 1):
        data = records.get(f"node/{index}")
        node = None if data is None else decode(data, "Node", read_node)
        if node is not None and isinstance(node, LeafNode) != (index % 2 == 0):
            raise InvalidError("a saved node is of the wrong kind for its index")
        nodes.append(node)
    return RatchetTree(suite, nodes)


def _load_secret_tree(
    suite: CipherSuite, records: Records, epoch: int, leaf_count: int
) -> SecretTree:
    prefix = f"secret/{epoch}/"
    parts = {
        NodeIndex(index): records[key]
        for index in range(2 * leaf_count - 1)
        if (key := f"{prefix}{index}") in records
    }
    return SecretTree.from_parts(suite, leaf_count, parts)


def _items(records: Records, kind: str) -> list[bytes]:
    """Return the records of a kind in the order of their numbers."""
    prefix = f"{kind}/"
    keys = [key.removeprefix(prefix) for key in records if key.startswith(prefix)]
    if not all(key.isdecimal() for key in keys):
        raise InvalidError("a record's key has no number")
    return [records[prefix + key] for key in sorted(keys, key=int)]


def _load_past(suite: CipherSuite, records: Records, data: bytes) -> PastEpoch:
    def read(reader: Reader) -> PastEpoch:
        number = reader.u64()
        context, sender_data_secret, resumption_psk = (reader.opaque() for _ in range(3))
        return PastEpoch(
            number=number,
            encoded_context=context,
            sender_data_secret=sender_data_secret,
            resumption_psk=resumption_psk,
            secret_tree=_load_secret_tree(suite, records, number, _leaf_count(reader)),
            replaced=dict(reader.vector(lambda r: (LeafIndex(r.u32()), r.optional(LeafNode.read)))),
        )

    return decode(data, "PastEpoch", read)


def _load_pending(suite: CipherSuite, data: bytes) -> tuple[bytes, Pending]:
    def read(reader: Reader) -> tuple[bytes, Pending]:
        reference, sender = reader.opaque(), Sender.read(reader)
        sent = SentProposal(read_proposal(reader), sender)
        key, seed = reader.optional(Reader.opaque), reader.optional(Reader.opaque)
        signer = None if seed is None else suite.signature.load(seed)
        return reference, Pending(sent=sent, encryption_key=key, signer=signer)

    return decode(data, "Pending", read)
