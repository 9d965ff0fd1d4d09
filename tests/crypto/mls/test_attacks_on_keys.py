"""Low-order points, signatures with a second form, and downgrades: refused on every field."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from crypto.codec import opaque, u16
from crypto.errors import (
    DecodeError,
    EpochError,
    InvalidError,
    VerificationError,
)
from crypto.mls import Add, Group, KeyPackage
from crypto.mls.external import join_by_external_commit, propose_own_add
from crypto.mls.framing import (
    PublicMessage,
    Sender,
    SenderType,
    decode_message,
    encode_message,
)
from crypto.mls.group_info import GroupInfo, Welcome
from crypto.mls.joining import sign_group_info
from crypto.mls.leaf_node import Extension, ExtensionType, LeafNode, Lifetime, sign_leaf_node
from crypto.mls.proposal import Commit, ExternalInit, HPKECiphertext, Update, UpdatePath
from crypto.mls.tree_math import LeafIndex, NodeIndex
from tests.crypto.low_order import LOW_ORDER_ED25519, LOW_ORDER_X25519, ORDER
from tests.crypto.mls.ward import (
    NOT_AFTER_S,
    NOT_BEFORE_S,
    STAFF,
    SUITE,
    advance,
    anyone,
    assemble,
    breaks,
    by_roster,
    commit_anyway,
    enter,
    group_info_over,
    key_package,
    pair,
    propose_anyway,
    repackage,
    said_of,
    send_bare,
    send_public,
    sign_as,
    trio,
)

# -- 14: points of low order -----------------------------------------------------------------------


def _leaf_with(point: bytes, source: Lifetime | bytes | None, group: Group | None) -> LeafNode:
    signer = group.current.signer if group else SUITE.signature.generate()
    return sign_leaf_node(
        SUITE,
        said_of(STAFF[group.own_leaf] if group else "Weber"),
        signer=signer,
        encryption_key=point,
        source=source,
        position=(group.group_id, group.own_leaf) if group else (b"", LeafIndex(0)),
    )


POINTS = (*LOW_ORDER_X25519, b"", bytes(31), bytes(33))
every_point = pytest.mark.parametrize("point", POINTS, ids=lambda p: p.hex() or "empty")


@every_point
def test_a_low_order_leaf_key_is_refused_in_add_update_and_path(point: bytes) -> None:
    osei, lindqvist, _ = trio()
    own = key_package("Weber")
    lifetime = Lifetime(not_before=NOT_BEFORE_S, not_after=NOT_AFTER_S)
    leaf = sign_leaf_node(
        SUITE,
        said_of("Weber"),
        signer=own.signer,
        encryption_key=point,
        source=lifetime,
        position=(b"", LeafIndex(0)),
    )
    add = Add(repackage(own, leaf))
    with pytest.raises(InvalidError):
        osei.commit([add], authenticate=anyone)
    with pytest.raises(InvalidError):
        lindqvist.process(propose_anyway(osei, add), authenticate=anyone)
    with pytest.raises(InvalidError):
        lindqvist.process(
            propose_anyway(osei, Update(_leaf_with(point, None, osei))), authenticate=anyone
        )

    def alter(path: UpdatePath, _: bytes) -> UpdatePath:
        return UpdatePath(_leaf_with(point, path.leaf_node.parent_hash, osei), path.nodes)

    with pytest.raises(InvalidError):
        lindqvist.process(commit_anyway(osei, alter=alter), authenticate=anyone)


@every_point
def test_a_low_order_init_key_is_refused(point: bytes) -> None:
    osei, lindqvist = pair()
    own = key_package("Weber")
    package = own.key_package
    content = package.content.replace(opaque(package.init_key), opaque(point), 1)
    signature = SUITE.sign_with_label(own.signer, "KeyPackageTBS", content)
    bad = replace(package, init_key=point, content=content, signature=signature)
    with pytest.raises(InvalidError):
        bad.verify(SUITE)
    with pytest.raises(InvalidError):
        lindqvist.process(propose_anyway(osei, Add(bad)), authenticate=anyone)


@every_point
def test_a_low_order_key_of_a_path_node_is_refused(point: bytes) -> None:
    osei, lindqvist, _ = trio()

    def alter(path: UpdatePath, _: bytes) -> UpdatePath:
        last = replace(path.nodes[-1], encryption_key=point)
        return UpdatePath(path.leaf_node, (*path.nodes[:-1], last))

    with breaks_hpke():
        lindqvist.process(commit_anyway(osei, alter=alter), authenticate=anyone)


@every_point
def test_a_low_order_kem_output_is_refused_in_path_welcome_and_external_init(
    point: bytes,
) -> None:
    osei, lindqvist = pair()

    def alter(path: UpdatePath, _: bytes) -> UpdatePath:
        sealed = tuple(
            HPKECiphertext(point, c.ciphertext) for c in path.nodes[0].encrypted_path_secret
        )
        return UpdatePath(
            path.leaf_node, (replace(path.nodes[0], encrypted_path_secret=sealed), *path.nodes[1:])
        )

    with breaks_hpke():
        lindqvist.process(commit_anyway(osei, alter=alter), authenticate=anyone)
    own = key_package("Weber")
    body = decode_message(
        osei.commit([Add(own.key_package)], authenticate=anyone)[1].welcome or b""
    )
    assert isinstance(body, Welcome)
    entry = body.secrets[0]
    sealed = HPKECiphertext(point, entry.encrypted_group_secrets.ciphertext)
    forged = replace(body, secrets=(replace(entry, encrypted_group_secrets=sealed),))
    with breaks_hpke():
        Group.join(encode_message(forged), own, authenticate=anyone)
    joiner = key_package("Weber")
    entered = decode_message(
        join_by_external_commit(
            osei.group_info(external_join=True), joiner, authenticate=anyone
        ).message
    )
    assert isinstance(entered, PublicMessage)
    commit = entered.message.content.content
    assert isinstance(commit, Commit)
    message = sign_as(
        osei,
        Commit((ExternalInit(point),), commit.path),
        sender=Sender(SenderType.NEW_MEMBER_COMMIT),
        signer=joiner.signer,
        tag=bytes(32),
    )
    with breaks_hpke():
        osei.process(send_bare(message), authenticate=anyone)


@every_point
def test_a_low_order_external_pub_is_refused(point: bytes) -> None:
    osei, _ = pair()
    extensions = (
        Extension(ExtensionType.EXTERNAL_PUB, opaque(point)),
        Extension(ExtensionType.RATCHET_TREE, osei.ratchet_tree),
    )
    with breaks_hpke():
        enter(encode_message(sign_group_info(osei.current, extensions)))


@every_point
def test_a_low_order_key_of_a_parent_is_refused_by_who_joins(point: bytes) -> None:
    # The insider's tree is right in all else: parent hash, leaf signature, tree hash, GroupInfo.
    osei, _ = advance(assemble(2))
    tree = osei.current.tree.copy()
    root, sibling = NodeIndex(1), NodeIndex(2)
    parent = tree.parent(root)
    leaf = tree.leaf(0)
    assert parent is not None
    assert leaf is not None
    for key in (parent.encryption_key, point):
        tree.set(root, replace(parent, encryption_key=key))
        own = _leaf_with(leaf.encryption_key, tree.parent_hash(root, sibling), osei)
        tree.set(NodeIndex(0), own)
        if key != point:
            assert enter(group_info_over(osei, tree)).group is not None
            continue
        with breaks_hpke():
            enter(group_info_over(osei, tree))


@contextmanager
def breaks_hpke() -> Iterator[None]:
    """Expect the refusal of an HPKE public key (RFC 9180, section 7.1)."""
    with pytest.raises(InvalidError) as refused:
        yield
    assert "RFC 9180" in refused.value.rule


@pytest.mark.parametrize("point", LOW_ORDER_ED25519, ids=bytes.hex)
def test_a_small_order_signature_key_is_refused_wherever_one_stands(point: bytes) -> None:
    osei, lindqvist = pair()
    package = key_package("Weber").key_package
    leaf = package.leaf_node
    swapped = leaf.content.replace(opaque(leaf.signature_key), opaque(point), 1)
    # R = A, S = 0: what a verifier without the check takes for a signature of some message.
    forged_signature = point + bytes(32)
    forged = replace(leaf, signature_key=point, content=swapped, signature=forged_signature)
    content = package.content.replace(leaf.encode(), forged.encode())
    bad = replace(package, leaf_node=forged, content=content, signature=forged_signature)
    with pytest.raises((VerificationError, InvalidError)):
        bad.verify(SUITE)
    with pytest.raises((VerificationError, InvalidError)):
        lindqvist.process(propose_anyway(osei, Add(bad)), authenticate=anyone)


# -- 15: signatures with a second form -------------------------------------------------------------


def _malleated(signature: bytes) -> bytes:
    number = int.from_bytes(signature[32:], "little") + ORDER
    return signature[:32] + number.to_bytes(32, "little")


def test_a_signature_with_a_non_canonical_s_is_refused_on_every_object() -> None:
    osei, lindqvist = pair()
    own = key_package("Weber")
    package = own.key_package
    with pytest.raises(VerificationError):
        replace(package, signature=_malleated(package.signature)).verify(SUITE)
    leaf = replace(package.leaf_node, signature=_malleated(package.leaf_node.signature))
    with pytest.raises(VerificationError):
        repackage(own, leaf).verify(SUITE)
    info = decode_message(osei.group_info(external_join=True))
    assert isinstance(info, GroupInfo)
    with pytest.raises(VerificationError):
        enter(encode_message(replace(info, signature=_malleated(info.signature))))
    for content in (Add(package), Commit((), None)):
        tag = bytes(32) if isinstance(content, Commit) else None
        message = sign_as(osei, content, tag=tag)
        forged = replace(message, signature=_malleated(message.signature))
        with pytest.raises(VerificationError):
            lindqvist.process(send_public(osei, forged), authenticate=anyone)
    body = decode_message(propose_own_add(own, group_id=osei.group_id, epoch=osei.epoch))
    assert isinstance(body, PublicMessage)
    forged = replace(body.message, signature=_malleated(body.message.signature))
    with pytest.raises(VerificationError):
        osei.process(send_bare(forged), authenticate=anyone)


# -- 16: downgrade ---------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [0, 2, 0x0100, 0xFFFF])
def test_another_protocol_version_is_refused_in_every_message(version: int) -> None:
    osei, lindqvist = pair()
    own = key_package("Weber")
    committer, staged = osei.commit([Add(own.key_package)], authenticate=by_roster)
    messages = {
        "group": [
            staged.message,
            committer.encrypt(b"text")[1],
            osei.propose_update(public=True)[1],
        ],
        "welcome": [staged.welcome or b""],
        "info": [osei.group_info(external_join=True)],
    }
    receivers: dict[str, Callable[[bytes], object]] = {
        "group": lambda data: lindqvist.process(data, authenticate=anyone),
        "welcome": lambda data: Group.join(data, own, authenticate=anyone),
        "info": lambda data: join_by_external_commit(data, own, authenticate=anyone),
    }
    for kind, of_kind in messages.items():
        for message in of_kind:
            with pytest.raises(DecodeError):
                receivers[kind](u16(version) + message[2:])
    package = own.key_package.encode()
    with pytest.raises(DecodeError):
        KeyPackage.decode(u16(version) + package[2:])


@pytest.mark.parametrize("suite", [0, 1, 2, 4, 7, 0xFFFF])
def test_another_suite_is_refused_in_key_package_welcome_and_group_info(suite: int) -> None:
    osei, lindqvist = pair()
    own = key_package("Weber")
    package = own.key_package
    content = u16(1) + u16(suite) + package.content[4:]
    signature = SUITE.sign_with_label(own.signer, "KeyPackageTBS", content)
    other = replace(package, cipher_suite=suite, content=content, signature=signature)
    with breaks("10.1"):
        other.verify(SUITE)
    with breaks("10.1"):
        lindqvist.process(propose_anyway(osei, Add(other)), authenticate=anyone)
    body = decode_message(osei.commit([Add(package)], authenticate=by_roster)[1].welcome or b"")
    assert isinstance(body, Welcome)
    with breaks("12.4.3.1"):
        Group.join(encode_message(replace(body, cipher_suite=suite)), own, authenticate=anyone)
    context = replace(osei.context, cipher_suite=suite)
    downgraded = replace(osei, current=replace(osei.current, context=context))
    with breaks("12.4.3.1"):
        enter(downgraded.group_info(external_join=True))


def test_a_group_extension_cannot_be_stripped_on_the_way_to_a_joiner() -> None:
    policy = Extension(0xF0AD, b"archive required")
    content = said_of("Osei", extensions=[0xF0AD])
    group = Group.create(
        key_package("Osei", content=content), group_id=b"ward 7", extensions=(policy,)
    )
    info = decode_message(group.group_info(external_join=True))
    assert isinstance(info, GroupInfo)
    stripped = replace(info, group_context=replace(info.group_context, extensions=()))
    with pytest.raises(VerificationError):
        enter(encode_message(stripped))


def test_a_member_that_skips_a_commit_cannot_be_led_along_another_line() -> None:
    # Two Commits of one epoch lead to epochs of one number that do not understand each other.
    osei, lindqvist, marchetti = trio()
    osei, left = osei.commit(authenticate=by_roster)
    lindqvist, right = lindqvist.commit(authenticate=by_roster)
    assert left.group is not None
    assert right.group is not None
    one, two = osei.merge(left.group), lindqvist.merge(right.group)
    assert one.epoch == two.epoch
    assert one.epoch_authenticator != two.epoch_authenticator
    assert one.context.confirmed_transcript_hash != two.context.confirmed_transcript_hash
    with pytest.raises(VerificationError):
        two.process(one.encrypt(b"fork")[1], authenticate=by_roster)
    with pytest.raises(EpochError):
        marchetti.process(one.encrypt(b"fork")[1], authenticate=by_roster)
