"""Adding members and joining: Welcome, GroupInfo, external commits (RFC 9420, section 12.4.3)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from crypto.codec import Reader, decode, opaque
from crypto.errors import InvalidError
from crypto.mls import tree_math
from crypto.mls.cipher_suite import CipherSuite
from crypto.mls.commit import Committed
from crypto.mls.epoch import Epoch, Own, begin_epoch
from crypto.mls.framing import encode_message
from crypto.mls.group_info import EncryptedGroupSecrets, GroupInfo, GroupSecrets, Welcome
from crypto.mls.key_package_secrets import KeyPackageSecrets
from crypto.mls.key_schedule import (
    FindPSK,
    KeySchedule,
    key_schedule,
    member_secret,
    psk_secret,
    welcome_key,
)
from crypto.mls.leaf_node import Extension, Extensions, ExtensionType, LeafNode, find_extension
from crypto.mls.proposal import HPKECiphertext, ResumptionPSK, ResumptionPSKUsage
from crypto.mls.ratchet_tree import RatchetTree
from crypto.mls.tree_math import LeafIndex
from crypto.mls.treekem import PrivateKeys, derive_private_keys
from crypto.mls.validation import (
    Authenticate,
    check_group_extensions,
    check_leaf,
    check_tree,
    check_unique_extensions,
)


def sign_group_info(epoch: Epoch, extensions: Extensions) -> GroupInfo:
    """Return the GroupInfo of an epoch, signed by this member (RFC 9420, section 12.4.3)."""
    info = GroupInfo(
        group_context=epoch.context,
        extensions=extensions,
        confirmation_tag=epoch.confirmation_tag,
        signer=epoch.own_leaf,
        signature=b"",
    )
    content = info.to_be_signed()
    signature = epoch.suite.sign_with_label(epoch.signer, "GroupInfoTBS", content)
    return replace(info, signature=signature)


def tree_extension(epoch: Epoch) -> Extension:
    """Return the ``ratchet_tree`` extension of an epoch (RFC 9420, section 12.4.3.3)."""
    return Extension(ExtensionType.RATCHET_TREE, epoch.tree.encode())


def external_pub_extension(epoch: Epoch) -> Extension:
    """Return the ``external_pub`` extension of an epoch (RFC 9420, section 12.4.3.2)."""
    _, public = epoch.suite.hpke.derive_key_pair(epoch.secrets.external_secret)
    return Extension(ExtensionType.EXTERNAL_PUB, opaque(public))


def make_welcome(committed: Committed, extensions: Extensions) -> bytes | None:
    """Return the one Welcome for all whom a Commit adds, None where it adds nobody.

    Source: RFC 9420, section 12.4.3.1.
    """
    if not committed.applied.added:
        return None
    suite = committed.epoch.suite
    info = sign_group_info(committed.epoch, extensions).encode()
    key, nonce = welcome_key(suite, committed.schedule.welcome_secret)
    encrypted_info = suite.aead.seal(key, nonce, b"", info)
    secrets = []
    for leaf, key_package in committed.applied.added:
        group_secrets = GroupSecrets(
            joiner_secret=committed.schedule.joiner_secret,
            path_secret=committed.path.secret_for(leaf) if committed.path else None,
            psks=committed.applied.psks,
        )
        sealed = suite.encrypt_with_label(
            key_package.init_key, "Welcome", encrypted_info, group_secrets.encode()
        )
        secrets.append(EncryptedGroupSecrets(key_package.reference(suite), HPKECiphertext(*sealed)))
    welcome = Welcome(
        cipher_suite=suite.value, secrets=tuple(secrets), encrypted_group_info=encrypted_info
    )
    return encode_message(welcome)


# -- joining -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class OpenedWelcome:
    """A Welcome as its key package opens it; the GroupInfo is not verified yet."""

    info: GroupInfo
    secrets: GroupSecrets
    psk_secret: bytes


def open_welcome(welcome: Welcome, own: KeyPackageSecrets, find_psk: FindPSK) -> OpenedWelcome:
    """Decrypt a Welcome's GroupSecrets and GroupInfo.

    Raises:
        InvalidError: It is not for this key package, or needs a pre-shared key that is unknown or
            of a usage that is refused here.
        VerificationError: It does not open.
        DecodeError: What opens is malformed.

    Source: RFC 9420, section 12.4.3.1.
    """
    suite = own.suite
    if welcome.cipher_suite != suite.value:
        raise InvalidError("Welcome is for another cipher suite (12.4.3.1)")
    reference = own.key_package.reference(suite)
    entry = next((e for e in welcome.secrets if e.new_member == reference), None)
    if entry is None:
        raise InvalidError("Welcome is not for this KeyPackage (12.4.3.1)")
    sealed = entry.encrypted_group_secrets
    opened = suite.decrypt_with_label(
        (own.init_key, own.key_package.init_key),
        "Welcome",
        welcome.encrypted_group_info,
        (sealed.kem_output, sealed.ciphertext),
    )
    secrets = GroupSecrets.decode(opened)
    for psk in secrets.psks:
        application = ResumptionPSKUsage.APPLICATION
        if isinstance(psk, ResumptionPSK) and psk.usage is not application:
            raise InvalidError("ReInit and branch groups (11.2, 11.3) are refused here")
    if len(set(secrets.psks)) != len(secrets.psks):
        raise InvalidError("a PreSharedKeyID appears twice (12.2)")
    psk_total = psk_secret(suite, secrets.psks, find_psk)
    member = member_secret(suite, secrets.joiner_secret, psk_total)
    key, nonce = welcome_key(suite, suite.derive_secret(member, "welcome"))
    info = GroupInfo.decode(suite.aead.open(key, nonce, b"", welcome.encrypted_group_info))
    return OpenedWelcome(info=info, secrets=secrets, psk_secret=psk_total)


def verified_tree(
    suite: CipherSuite, info: GroupInfo, ratchet_tree: bytes | None, authenticate: Authenticate
) -> RatchetTree:
    """Return the tree that a GroupInfo describes, with every check that a joiner must make.

    Args:
        suite: The joiner's.
        info: As received.
        ratchet_tree: The tree, where it did not come inside ``info``.
        authenticate: Judges every leaf.

    Raises:
        InvalidError: A rule is broken, or there is no tree.
        VerificationError: A signature does not verify.
        DecodeError: Something inside is malformed.

    Source: RFC 9420, section 12.4.3.1.
    """
    context = info.group_context
    if context.cipher_suite != suite.value:
        raise InvalidError("GroupInfo is for another cipher suite (12.4.3.1)")
    inside = find_extension(info.extensions, ExtensionType.RATCHET_TREE)
    encoded = inside if inside is not None else ratchet_tree
    if encoded is None:
        raise InvalidError("no ratchet_tree inside the GroupInfo or beside it (12.4.3.3)")
    tree = RatchetTree.decode(suite, encoded)
    if tree.tree_hash() != context.tree_hash:
        raise InvalidError("tree hash differs from the GroupContext's (12.4.3.1)")
    signer = tree.leaf(info.signer)
    if signer is None:
        raise InvalidError("GroupInfo is signed by no member (12.4.3.1)")
    suite.verify_with_label(
        signer.signature_key, "GroupInfoTBS", info.to_be_signed(), info.signature
    )
    check_unique_extensions(info.extensions)
    check_group_extensions(context.extensions)
    check_tree(tree, context.extensions)
    tree.verify()
    for index, leaf in tree.leaves():
        check_leaf(suite, leaf, None)
        leaf.verify_signature(suite, group_id=context.group_id, leaf_index=index)
        authenticate(leaf, None)
    return tree


def _own_index(tree: RatchetTree, leaf_node: LeafNode) -> LeafIndex:
    for index, leaf in tree.leaves():
        if leaf == leaf_node:
            return index
    raise InvalidError("the joiner's leaf is not in the tree (12.4.3.1)")


def _joiner_keys(
    tree: RatchetTree, leaf: LeafIndex, opened: OpenedWelcome, own: KeyPackageSecrets
) -> PrivateKeys:
    """Return the private keys of a joiner's path, as far as the inviter told them.

    Whatever it did not tell must list the joiner as unmerged: a key of its own path that a joiner
    is held to know and does not would lock it out at the next Commit.

    Source: RFC 9420, section 12.4.3.1.
    """
    keys = {tree_math.leaf_node(leaf): own.encryption_key}
    path_secret = opened.secrets.path_secret
    path = tree_math.direct_path(leaf, tree.leaf_count)
    if path_secret is not None:
        signer = opened.info.signer
        if signer == leaf:
            raise InvalidError("path_secret from the joiner itself (12.4.3.1)")
        above = path[path.index(tree_math.common_ancestor(leaf, signer)) :]
        nodes = [node for node in above if tree.parent(node) is not None]
        if nodes[:1] != above[:1]:
            raise InvalidError("path_secret for a blank node (12.4.3.1)")
        _, derived = derive_private_keys(tree, nodes, path_secret)
        keys.update(derived)
    for node in path:
        parent = tree.parent(node)
        if parent is not None and node not in keys and leaf not in parent.unmerged_leaves:
            raise InvalidError("a node above the joiner has a key that it was not told (7.5)")
    return keys


def join(
    welcome: Welcome,
    own: KeyPackageSecrets,
    *,
    ratchet_tree: bytes | None,
    find_psk: FindPSK,
    authenticate: Authenticate,
) -> tuple[Epoch, KeySchedule]:
    """Return the epoch that a Welcome lets its reader into.

    Raises:
        InvalidError: A rule is broken.
        VerificationError: Something does not open or verify.
        DecodeError: Something is malformed.

    Source: RFC 9420, section 12.4.3.1.
    """
    suite = own.suite
    opened = open_welcome(welcome, own, find_psk)
    info = opened.info
    context = info.group_context
    tree = verified_tree(suite, info, ratchet_tree, authenticate)
    leaf = _own_index(tree, own.key_package.leaf_node)
    keys = _joiner_keys(tree, leaf, opened, own)
    schedule = key_schedule(
        suite,
        joiner=opened.secrets.joiner_secret,
        psk_secret=opened.psk_secret,
        context=context.encode(),
    )
    suite.verify_mac(
        schedule.secrets.confirmation_key, context.confirmed_transcript_hash, info.confirmation_tag
    )
    epoch = begin_epoch(
        context,
        schedule.secrets,
        tree=tree,
        confirmation_tag=info.confirmation_tag,
        own=Own(leaf=leaf, signer=own.signer, private_keys=keys),
        follows=b"",
    )
    return epoch, schedule


def external_pub(info: GroupInfo) -> bytes:
    """Return the key to which an external joiner encapsulates (RFC 9420, section 12.4.3.2).

    Raises:
        InvalidError: The GroupInfo has none: the group does not invite external joins.
        DecodeError: It is malformed.
    """
    data = find_extension(info.extensions, ExtensionType.EXTERNAL_PUB)
    if data is None:
        raise InvalidError("GroupInfo without external_pub (12.4.3.2)")
    return decode(data, "ExternalPub", Reader.opaque)
