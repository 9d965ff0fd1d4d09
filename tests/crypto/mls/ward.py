"""A ward's staff as members of MLS groups, and the insider who breaks the rules on purpose.

Values are immutable, so that groups made once serve many tests.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache

import pytest

from crypto.codec import opaque, vector
from crypto.errors import (
    DecodeError,
    EpochError,
    InvalidError,
    KeyUsedError,
    VerificationError,
)
from crypto.mls import (
    Add,
    ApplicationMessage,
    Capabilities,
    Credential,
    Group,
    KeyPackage,
    KeyPackageSecrets,
    LeafContent,
    StagedCommit,
)
from crypto.mls.cipher_suite import (
    X25519_CHACHA20POLY1305_SHA256_ED25519,
    CipherSuite,
    Signer,
)
from crypto.mls.commit import CommitBase, Committed, Plan, applied_for, make_commit
from crypto.mls.epoch import Transition, apply_proposals
from crypto.mls.external import join_by_external_commit
from crypto.mls.framing import (
    AuthenticatedContent,
    Content,
    PublicMessage,
    Sender,
    SenderType,
    WireFormat,
    encode_message,
)
from crypto.mls.joining import make_welcome, tree_extension
from crypto.mls.leaf_node import CredentialType, Extension, Extensions, ExtensionType, LeafNode
from crypto.mls.proposal import Commit, Proposal, ProposalOrRef, Remove, UpdatePath
from crypto.mls.protection import frame, protect_private, protect_public, sign_content
from crypto.mls.ratchet_tree import RatchetTree
from crypto.mls.tree_math import LeafIndex
from crypto.mls.treekem import create_path, encrypt_path
from crypto.mls.validation import SentProposal

SUITE = X25519_CHACHA20POLY1305_SHA256_ED25519

DOCUMENTED = (DecodeError, InvalidError, VerificationError, EpochError, KeyUsedError)
"""What bytes from outside may raise, and nothing else."""

STAFF = (
    "Osei",
    "Lindqvist",
    "Marchetti",
    "Nakamura",
    "Okafor",
    "Petrov",
    "Quispe",
    "Rahimi",
    "Silva",
    "Tanaka",
    "Ueda",
    "Vasquez",
    "Weber",
    "Xu",
    "Yilmaz",
    "Zielinski",
    "Abara",
    "Bianchi",
    "Chaudhry",
    "Dubois",
)

NOT_BEFORE_S = 1_700_000_000
NOT_AFTER_S = 1_800_000_000


def by_roster(leaf: LeafNode, replaced: LeafNode | None) -> None:
    """Judge a leaf as a ward would: only staff, and nobody in another's place."""
    if leaf.credential.identity.decode(errors="replace") not in STAFF:
        raise VerificationError
    if replaced is not None and replaced.credential.identity != leaf.credential.identity:
        raise VerificationError


def anyone(leaf: LeafNode, replaced: LeafNode | None) -> None:
    """Judge every leaf acceptable: for tests in which MLS alone must refuse."""


def said_of(
    name: str,
    *,
    suite: CipherSuite = SUITE,
    extensions: Sequence[int] = (),
    leaf_extensions: Extensions = (),
) -> LeafContent:
    """Return what a member of staff says of itself in its leaf."""
    return LeafContent(
        credential=Credential.basic(name.encode()),
        capabilities=Capabilities.of(
            suite, extensions=extensions, credentials=[CredentialType.BASIC]
        ),
        extensions=leaf_extensions,
    )


def key_package(
    name: str,
    *,
    suite: CipherSuite = SUITE,
    signer: Signer | None = None,
    content: LeafContent | None = None,
    extensions: Extensions = (),
) -> KeyPackageSecrets:
    """Return a fresh key package of a member of staff."""
    return KeyPackageSecrets.generate(
        suite,
        content or said_of(name, suite=suite),
        signer=signer or suite.signature.generate(),
        not_before_s=NOT_BEFORE_S,
        not_after_s=NOT_AFTER_S,
        extensions=extensions,
    )


def repackage(own: KeyPackageSecrets, leaf: LeafNode) -> KeyPackage:
    """Return the key package, signed anew around another leaf, whatever that leaf is."""
    package = own.key_package
    content = package.content.replace(package.leaf_node.encode(), leaf.encode())
    return replace(
        package,
        leaf_node=leaf,
        content=content,
        signature=own.suite.sign_with_label(own.signer, "KeyPackageTBS", content),
    )


def found(name: str, *, suite: CipherSuite = SUITE, extensions: Extensions = ()) -> Group:
    """Return a new group of one."""
    return Group.create(
        key_package(name, suite=suite), group_id=secrets.token_bytes(16), extensions=extensions
    )


def admit(
    group: Group, packages: Iterable[KeyPackageSecrets], *, with_path: bool = True
) -> tuple[Group, list[Group], StagedCommit]:
    """Return the group with the holders of ``packages`` in it, their groups, and the Commit."""
    packages = list(packages)
    group, staged = group.commit(
        [Add(own.key_package) for own in packages], authenticate=by_roster, with_path=with_path
    )
    assert staged.group is not None
    assert staged.welcome is not None
    joined = [Group.join(staged.welcome, own, authenticate=by_roster) for own in packages]
    return group.merge(staged.group), joined, staged


def assemble(count: int, *, suite: CipherSuite = SUITE, extensions: Extensions = ()) -> list[Group]:
    """Return the groups of the first ``count`` of the staff, whose leaves are 0, 1, 2, ..."""
    first = found(STAFF[0], suite=suite, extensions=extensions)
    if count == 1:
        return [first]
    first, others, _ = admit(first, [key_package(name, suite=suite) for name in STAFF[1:count]])
    return [first, *others]


def hear(group: Group, message: bytes) -> Group:
    """Return the group after a message; a Commit is merged at once."""
    group, received = group.process(message, authenticate=by_roster)
    if isinstance(received, StagedCommit):
        assert received.group is not None
        return group.merge(received.group)
    return group


def read(group: Group, message: bytes) -> tuple[Group, bytes]:
    """Return the group after an application message, and its text."""
    group, received = group.process(message, authenticate=by_roster)
    assert isinstance(received, ApplicationMessage)
    return group, received.data


def stage(group: Group, message: bytes) -> StagedCommit:
    """Return a Commit as the group verifies it."""
    _, received = group.process(message, authenticate=by_roster)
    assert isinstance(received, StagedCommit)
    return received


def advance(groups: Sequence[Group], by: int = 0, **options: object) -> list[Group]:
    """Return all groups after a Commit of one of them."""
    committer, staged = groups[by].commit(authenticate=by_roster, **options)  # type: ignore[arg-type]  # options are commit's own
    assert staged.group is not None
    merged = committer.merge(staged.group)
    return [merged if g is groups[by] else hear(g, staged.message) for g in groups]


def everyone_understands(groups: Sequence[Group]) -> list[Group]:
    """Let each member write to all; return the groups afterwards."""
    after = list(groups)
    for at in range(len(after)):
        text = secrets.token_bytes(8)
        after[at], message = after[at].encrypt(text)
        for other in range(len(after)):
            if other != at:
                after[other], heard = read(after[other], message)
                assert heard == text
    return after


def saved(group: Group) -> dict[str, bytes]:
    """Return all of a group's records."""
    return {key: data for key, data in group.changes(None).items() if data is not None}


def unchanged(group: Group, before: dict[str, bytes]) -> bool:
    """Tell whether a group's records are as they were."""
    return saved(group) == before


def external_senders_extension(signer: Signer, name: str) -> Extension:
    """Return the extension that lets the holder of a key outside the group propose."""
    sender = opaque(signer.public_key) + Credential.basic(name.encode()).encode()
    return Extension(ExtensionType.EXTERNAL_SENDERS, vector([sender]))


@contextmanager
def breaks(section: str) -> Iterator[None]:
    """Expect ``InvalidError`` by a rule of a section of RFC 9420, written ``"12.2"``."""
    with pytest.raises(InvalidError) as refused:
        yield
    assert re.search(rf"(?<![.\d]){re.escape(section)}(?![.\d])", refused.value.rule), (
        refused.value.rule
    )


def group_info_over(group: Group, tree: RatchetTree, **options: bool) -> bytes:
    """Return a GroupInfo that the member signs over a tree of its own making."""
    context = replace(group.context, tree_hash=tree.tree_hash())
    epoch = replace(group.current, tree=tree, context=context)
    return replace(group, current=epoch).group_info(external_join=True, **options)


def enter(info: bytes, name: str = "Dubois") -> StagedCommit:
    """Let somebody from outside join by an external commit, which checks all that joiners must."""
    return join_by_external_commit(info, key_package(name), authenticate=anyone)


def evict(leaf: int) -> Remove:
    """Return the proposal that removes a leaf."""
    return Remove(LeafIndex(leaf))


# -- the insider: signs what no honest member would ------------------------------------------------


def sign_as(
    group: Group,
    content: Content,
    *,
    sender: Sender | None = None,
    signer: Signer | None = None,
    wire_format: WireFormat = WireFormat.PUBLIC_MESSAGE,
    epoch: int | None = None,
    tag: bytes | None = None,
) -> AuthenticatedContent:
    """Return any content signed by the member, whatever the rules say about it."""
    sender = sender or Sender(SenderType.MEMBER, group.own_leaf)
    framed = frame(
        content,
        group_id=group.group_id,
        epoch=group.epoch if epoch is None else epoch,
        sender=sender,
        authenticated_data=b"",
    )
    signature = sign_content(
        group.current.suite,
        signer or group.current.signer,
        framed,
        wire_format=wire_format,
        context=group.current.encoded_context,
    )
    return AuthenticatedContent(
        wire_format=wire_format, content=framed, signature=signature, confirmation_tag=tag
    )


def send_public(group: Group, message: AuthenticatedContent) -> bytes:
    """Return signed content as a PublicMessage with the group's membership tag."""
    public = protect_public(
        group.current.suite,
        message,
        membership_key=group.current.secrets.membership_key,
        context=group.current.encoded_context,
    )
    return encode_message(public)


def send_bare(message: AuthenticatedContent) -> bytes:
    """Return signed content as a PublicMessage without a membership tag."""
    return encode_message(PublicMessage(message=message, membership_tag=None))


def propose_anyway(group: Group, proposal: Proposal) -> bytes:
    """Return a proposal that is sent without being checked."""
    return send_public(group, sign_as(group, proposal))


def list_anyway(group: Group, *items: ProposalOrRef, path: UpdatePath | None = None) -> bytes:
    """Return a Commit of any list, signed and tagged, with a confirmation tag that fits nothing."""
    tag = bytes(group.current.suite.hash_bytes)
    return send_public(group, sign_as(group, Commit(items, path), tag=tag))


def commit_anyway(
    group: Group,
    proposals: Sequence[Proposal] = (),
    *,
    alter: Callable[[UpdatePath, bytes], UpdatePath] = lambda path, _: path,
) -> bytes:
    """Return a Commit made without its maker's checks, its path changed before it is signed.

    ``alter`` is given the path, and the encoded GroupContext under which its secrets are sealed.
    Everything else is right: the signature, the membership tag, and the confirmation tag of the
    epoch to which the unchanged path leads.
    """
    sender = Sender(SenderType.MEMBER, group.own_leaf)
    base = CommitBase.of(group.current)
    suite, context = base.suite, base.context
    sent = [SentProposal(proposal, sender) for proposal in proposals]
    applied = apply_proposals(context, base.tree, sent, authenticate=anyone)
    own = group.current.tree.leaf(group.own_leaf)
    assert own is not None
    content = LeafContent(
        credential=own.credential, capabilities=own.capabilities, extensions=own.extensions
    )
    path = create_path(
        applied.tree,
        group.own_leaf,
        content,
        signer=group.current.signer,
        group_id=group.group_id,
    )
    provisional = base.provisional(applied)
    update_path = encrypt_path(
        applied.tree, path, context=provisional.encode(), added=applied.added_nodes
    )
    message = sign_as(group, Commit(tuple(proposals), alter(update_path, provisional.encode())))
    transition = Transition(
        suite=suite,
        provisional=provisional,
        interim=base.interim_transcript_hash,
        init_secret=base.init_secret,
        commit_secret=path.commit_secret,
        psks=applied.psks,
        find_psk=lambda _: None,
    )
    following, schedule = transition.follow(message)
    tag = suite.mac(schedule.secrets.confirmation_key, following.confirmed_transcript_hash)
    return send_public(group, replace(message, confirmation_tag=tag))


@cache
def pair() -> tuple[Group, Group]:
    """Return the smallest ward, made once: Osei at leaf 0, Lindqvist at leaf 1."""
    osei, lindqvist = assemble(2)
    return osei, lindqvist


@cache
def trio() -> tuple[Group, Group, Group]:
    """Return a ward of three whose tree has keys on every path, made once."""
    osei, lindqvist, marchetti = advance(advance(assemble(3)), by=2)
    return osei, lindqvist, marchetti


@cache
def twenty() -> tuple[Group, ...]:
    """Return the whole ward, in which several have committed, made once."""
    groups = assemble(20)
    for committer in (0, 7, 13, 19, 4):
        groups = advance(groups, by=committer)
    return tuple(groups)


def welcome_anyway(
    group: Group,
    packages: Sequence[KeyPackageSecrets],
    *,
    alter: Callable[[Committed], Committed] = lambda committed: committed,
) -> bytes:
    """Return the Welcome of a Commit that adds ``packages``, changed before it is sealed."""
    sender = Sender(SenderType.MEMBER, group.own_leaf)
    proposals = tuple(Add(own.key_package) for own in packages)
    sent = tuple(SentProposal(proposal, sender) for proposal in proposals)
    base = CommitBase.of(group.current)
    applied = applied_for(base, sent, group.own_leaf, authenticate=anyone)
    plan = Plan(
        sender=sender,
        leaf=group.own_leaf,
        proposals=proposals,
        sent=sent,
        with_path=True,
        content=said_of(STAFF[group.own_leaf]),
        signer=group.current.signer,
        next_signer=group.current.signer,
        wire_format=WireFormat.PRIVATE_MESSAGE,
        authenticated_data=b"",
    )
    committed = make_commit(
        base,
        plan,
        applied,
        old_keys=group.current.private_keys,
        find_psk=lambda _: None,
        authenticate=anyone,
    )
    committed = alter(committed)
    welcome = make_welcome(committed, (tree_extension(committed.epoch),))
    assert welcome is not None
    return welcome


def claim(group: Group, leaf: int, *, epoch: int | None = None) -> bytes:
    """Return a message, under a made-up key, in which the member claims another leaf."""
    sender = Sender(SenderType.MEMBER, leaf)
    private = protect_private(
        group.current.suite,
        sign_as(group, b"who am I", sender=sender, epoch=epoch),
        generation=0,
        message_key=(bytes(group.current.suite.aead.key_bytes), bytes(12)),
        sender_data_secret=group.current.secrets.sender_data_secret,
    )
    return encode_message(private)
