"""A group's state as records, so that a client saves what changed and no more.

Keys are ``epoch``; ``node/<index>`` for the tree; ``secret/<epoch>/<node>`` for what is left of the
message keys; ``past/<epoch>``; ``proposal/<place>``. One message changes a ``secret`` record or a
few, whatever the group's size; a Commit changes a path of nodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Annotated, Self, TypeVar

from crypto.codec import U64, Opaque, Reader, Struct, Wire, decode, map_of, opaque, optional_of, u32
from crypto.errors import InvalidError
from crypto.mls import tree_math
from crypto.mls.cipher_suite import CipherSuite, cipher_suite
from crypto.mls.commit import Pending, PendingProposals
from crypto.mls.epoch import Epoch, PastEpoch
from crypto.mls.framing import Sender
from crypto.mls.group_info import GroupContext
from crypto.mls.key_schedule import EpochSecrets, interim_transcript_hash
from crypto.mls.leaf_node import LeafNode
from crypto.mls.proposal import Proposal, Update, encode_proposal, read_proposal
from crypto.mls.ratchet_tree import LeafCount, Node, RatchetTree, encode_node, read_node
from crypto.mls.secret_tree import SecretTree
from crypto.mls.tree_math import LeafIndex, LeafPlace, NodeIndex, read_leaf_index
from crypto.mls.validation import SentProposal

T = TypeVar("T")

Records = Mapping[str, bytes]
Changes = dict[str, bytes | None]

_EPOCH = "epoch"


def _read_node_index(reader: Reader) -> NodeIndex:
    return NodeIndex(reader.u32())


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class GroupState:
    """All that a group consists of; ``Group`` says what the attributes are."""

    current: Epoch
    secret_tree: SecretTree
    past: tuple[PastEpoch, ...] = ()
    pending: PendingProposals = field(default_factory=dict)

    def using(self, secret_tree: SecretTree) -> Self:
        """Return the state with a key of the present epoch used; all else is shared."""
        return type(self)(
            current=self.current, secret_tree=secret_tree, past=self.past, pending=self.pending
        )

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

    def changes(self, since: GroupState | None) -> Changes:
        """Return the records to write to come from ``since`` to here; None deletes one."""
        changes: Changes = {}
        if since is None or self.current is not since.current:
            changes[_EPOCH] = _encode_epoch(self.current)
            changes.update(_node_changes(self.current.tree, since.current.tree if since else None))
        trees, old_trees = _secret_trees(self), _secret_trees(since)
        for number in old_trees.keys() - trees.keys():
            for node in old_trees[number].changes(None):
                changes[f"secret/{number}/{node}"] = None
        for number, tree in trees.items():
            for node, record in tree.changes(old_trees.get(number)).items():
                changes[f"secret/{number}/{node}"] = record
        # An epoch that is over changes no more but in its secret tree, which is saved above.
        past, before = _past(self), _past(since)
        changes.update({f"past/{n}": _encode_past(past[n]) for n in past.keys() - before.keys()})
        changes.update({f"past/{n}": None for n in before.keys() - past.keys()})
        changes.update(_pending_changes(_pending(self), _pending(since)))
        return changes


def _secret_trees(state: GroupState | None) -> dict[int, SecretTree]:
    """Return the secret tree of each epoch that is still readable."""
    if state is None:
        return {}
    return {state.epoch: state.secret_tree} | {p.number: p.secret_tree for p in state.past}


def _past(state: GroupState | None) -> dict[int, PastEpoch]:
    return {past.number: past for past in state.past} if state else {}


def _pending(state: GroupState | None) -> dict[int, tuple[bytes, Pending]]:
    return dict(enumerate(state.pending.items())) if state else {}


def _node_changes(
    tree: RatchetTree, before: RatchetTree | None
) -> Iterator[tuple[str, bytes | None]]:
    old = before.nodes if before else []
    for index in range(max(len(tree.nodes), len(old))):
        node = tree.nodes[index] if index < len(tree.nodes) else None
        was = old[index] if index < len(old) else None
        if node is not was:
            yield f"node/{index}", encode_node(node) if node else None


def _pending_changes(
    items: Mapping[int, tuple[bytes, Pending]], before: Mapping[int, tuple[bytes, Pending]]
) -> Iterator[tuple[str, bytes | None]]:
    for place in items.keys() | before.keys():
        item = items.get(place)
        if item != before.get(place):
            yield f"proposal/{place}", _encode_pending(item) if item else None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class _EpochRecord(Struct):
    context: GroupContext
    leaf_count: LeafCount
    secrets: EpochSecrets
    follows: Opaque
    interim_transcript_hash: Opaque
    confirmation_tag: Opaque
    own_leaf: LeafPlace
    seed: Opaque
    private_keys: Annotated[
        dict[NodeIndex, bytes], map_of(Wire(_read_node_index, u32), Wire(Reader.opaque, opaque))
    ]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class _PastRecord(Struct):
    number: U64
    encoded_context: Opaque
    sender_data_secret: Opaque
    resumption_psk: Opaque
    leaf_count: LeafCount
    replaced: Annotated[
        dict[LeafIndex, LeafNode | None],
        map_of(Wire(read_leaf_index, u32), optional_of(LeafNode.read, LeafNode.encode)),
    ]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class _PendingRecord(Struct):
    reference: Opaque
    sender: Annotated[Sender, Wire(Sender.read, Sender.encode)]
    proposal: Annotated[Proposal, Wire(read_proposal, encode_proposal)]
    encryption_key: Annotated[bytes | None, optional_of(Reader.opaque, opaque)]
    seed: Annotated[bytes | None, optional_of(Reader.opaque, opaque)]


def _encode_epoch(epoch: Epoch) -> bytes:
    return _EpochRecord(
        context=epoch.context,
        leaf_count=epoch.tree.leaf_count,
        secrets=epoch.secrets,
        follows=epoch.follows,
        interim_transcript_hash=epoch.interim_transcript_hash,
        confirmation_tag=epoch.confirmation_tag,
        own_leaf=epoch.own_leaf,
        seed=epoch.signer.seed,
        private_keys=dict(epoch.private_keys),
    ).encode()


def _encode_past(past: PastEpoch) -> bytes:
    return _PastRecord(
        number=past.number,
        encoded_context=past.encoded_context,
        sender_data_secret=past.sender_data_secret,
        resumption_psk=past.resumption_psk,
        leaf_count=past.secret_tree.leaf_count,
        replaced=dict(past.replaced),
    ).encode()


def _encode_pending(item: tuple[bytes, Pending]) -> bytes:
    reference, pending = item
    return _PendingRecord(
        reference=reference,
        sender=pending.sent.sender,
        proposal=pending.sent.proposal,
        encryption_key=pending.encryption_key,
        seed=pending.signer.seed if pending.signer else None,
    ).encode()


def load(records: Records) -> GroupState:
    """Return the state that ``changes(None)`` and later changes have saved.

    Raises:
        DecodeError: A record is malformed.
        InvalidError: Records are missing, or do not belong together.
        VerificationError: The epoch's confirmation tag does not verify.
    """
    if _EPOCH not in records:
        raise InvalidError("the epoch's record is missing")
    saved = _EpochRecord.decode(records[_EPOCH])
    context = saved.context
    suite = cipher_suite(context.cipher_suite)
    tree = _load_tree(suite, records, saved.leaf_count)
    if tree.tree_hash() != context.tree_hash:
        raise InvalidError("the saved tree is not that of the saved GroupContext")
    epoch = Epoch(
        suite=suite,
        context=context,
        encoded_context=context.encode(),
        tree=tree,
        secrets=saved.secrets,
        follows=saved.follows,
        interim_transcript_hash=saved.interim_transcript_hash,
        confirmation_tag=saved.confirmation_tag,
        own_leaf=saved.own_leaf,
        signer=suite.signature.load(saved.seed),
        private_keys=saved.private_keys,
    )
    _check_keys(epoch)
    _check_transcript(epoch)
    ended = range(context.epoch - 1, -1, -1)
    past = [_load_past(suite, records, data) for data in _items(records, "past", ended)]
    if any(past.number != number for past, number in zip(past, ended, strict=False)):
        raise InvalidError("a saved past epoch is not that of its record's key")
    pending = [_load_pending(suite, data) for data in _items(records, "proposal", count())]
    if len(dict(pending)) != len(pending):
        raise InvalidError("a proposal is saved twice")
    return GroupState(
        current=epoch,
        secret_tree=_load_secret_tree(suite, records, context.epoch, tree.leaf_count),
        past=tuple(past),
        pending=dict(pending),
    )


def _check_keys(epoch: Epoch) -> None:
    """Refuse, with ``InvalidError``, private keys that are not those of the holder's path."""
    tree, leaf = epoch.tree, epoch.tree.leaf(epoch.own_leaf)
    if leaf is None:
        raise InvalidError("the saved tree has no leaf for its holder")
    if epoch.signer.public_key != leaf.signature_key:
        raise InvalidError("the saved signature key is not that of the holder's leaf")
    own_path = tree_math.direct_path(epoch.own_leaf, tree.leaf_count)
    if not epoch.private_keys.keys() <= {tree_math.leaf_node(epoch.own_leaf), *own_path}:
        raise InvalidError("a saved private key is not of the holder's path")
    for index, private_key in epoch.private_keys.items():
        node = tree.nodes[index]
        public_key = epoch.suite.hpke.group.public_key(private_key)
        if node is None or public_key != node.encryption_key:
            raise InvalidError("a saved private key is not that of its node")


def _check_transcript(epoch: Epoch) -> None:
    """Refuse a tag and a transcript hash that are not the epoch's (RFC 9420, section 8.2)."""
    suite, tag = epoch.suite, epoch.confirmation_tag
    confirmed = epoch.context.confirmed_transcript_hash
    suite.verify_mac(epoch.secrets.confirmation_key, confirmed, tag)
    if epoch.interim_transcript_hash != interim_transcript_hash(suite, confirmed, tag):
        raise InvalidError("the saved transcript hash is not that of the saved epoch")


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
    found = {key.removeprefix(prefix) for key in records if key.startswith(prefix)}
    nodes = (NodeIndex(index) for index in range(2 * leaf_count - 1) if str(index) in found)
    parts = {node: records[f"{prefix}{node}"] for node in nodes}
    tree = SecretTree.from_parts(suite, leaf_count, parts)
    if {str(node) for node in tree.changes(None)} != found:
        raise InvalidError("saved parts of a secret tree do not belong together")
    return tree


def _items(records: Records, kind: str, numbers: Iterable[int]) -> list[bytes]:
    """Return the records of a kind, whose numbers are the first of ``numbers``.

    Raises:
        InvalidError: There are others.
    """
    found = []
    for number in numbers:
        data = records.get(f"{kind}/{number}")
        if data is None:
            break
        found.append(data)
    if len(found) != sum(key.startswith(f"{kind}/") for key in records):
        raise InvalidError("saved records of a kind do not follow on each other")
    return found


def _load_past(suite: CipherSuite, records: Records, data: bytes) -> PastEpoch:
    saved = _PastRecord.decode(data)
    return PastEpoch(
        number=saved.number,
        encoded_context=saved.encoded_context,
        sender_data_secret=saved.sender_data_secret,
        resumption_psk=saved.resumption_psk,
        replaced=saved.replaced,
        secret_tree=_load_secret_tree(suite, records, saved.number, saved.leaf_count),
    )


def _load_pending(suite: CipherSuite, data: bytes) -> tuple[bytes, Pending]:
    saved = _PendingRecord.decode(data)
    signer = None if saved.seed is None else suite.signature.load(saved.seed)
    pending = Pending(
        sent=SentProposal(saved.proposal, saved.sender),
        encryption_key=saved.encryption_key,
        signer=signer,
    )
    _check_pending(suite, pending)
    return saved.reference, pending


def _check_pending(suite: CipherSuite, pending: Pending) -> None:
    """Refuse, with ``InvalidError``, private keys that are not those of an Update beside them."""
    proposal, key, signer = pending.sent.proposal, pending.encryption_key, pending.signer
    if key is None and signer is None:
        return
    if not isinstance(proposal, Update) or key is None:
        raise InvalidError("saved private keys belong to no Update")
    leaf = proposal.leaf_node
    if suite.hpke.group.public_key(key) != leaf.encryption_key:
        raise InvalidError("a saved private key is not that of its Update")
    if signer is not None and signer.public_key != leaf.signature_key:
        raise InvalidError("a saved signature key is not that of its Update")
