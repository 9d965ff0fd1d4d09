"""One function for each kind of official vector (mls-implementations, test-vectors.md).

Each takes one case as decoded from JSON. It returns where all agrees, fails an assertion where a
computed value differs, and lets the package's own errors through where the package refuses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from crypto.codec import Reader, decode
from crypto.errors import InvalidError
from crypto.mls import Group, KeyPackageSecrets, StagedCommit, tree_math
from crypto.mls.cipher_suite import CipherSuite
from crypto.mls.framing import (
    AuthenticatedContent,
    PrivateMessage,
    PublicMessage,
    WireFormat,
    decode_message,
    encode_message,
)
from crypto.mls.group_info import GroupContext, GroupSecrets, Welcome
from crypto.mls.joining import open_welcome
from crypto.mls.key_package import KeyPackage
from crypto.mls.key_schedule import (
    confirmed_transcript_hash,
    exported_secret,
    interim_transcript_hash,
    joiner_secret,
    key_schedule,
    psk_secret,
)
from crypto.mls.leaf_node import LeafContent, LeafNode
from crypto.mls.proposal import (
    Add,
    Commit,
    ExternalPSK,
    Remove,
    Update,
    UpdatePath,
    encode_proposal,
    read_proposal,
)
from crypto.mls.protection import (
    open_sender_data,
    protect_private,
    protect_public,
    sender_data_key,
    sign_content,
    unprotect_private,
    unprotect_public,
    verify_content,
)
from crypto.mls.ratchet_tree import RatchetTree
from crypto.mls.secret_tree import SecretTree
from crypto.mls.tree_math import LeafIndex, NodeIndex
from crypto.mls.treekem import (
    PrivateKeys,
    apply_path,
    create_path,
    decrypt_path,
    derive_private_keys,
    encrypt_path,
)
from tests.vectors.suites import suite_for

Case = Any
unhex = bytes.fromhex


def accept(leaf: LeafNode, replaced: LeafNode | None) -> None:
    """Judge no credential: the vectors' are basic and without meaning."""


def tree_math_case(case: Case) -> None:
    n = case["n_leaves"]
    assert tree_math.node_width(n) == case["n_nodes"]
    assert tree_math.root(n) == case["root"]
    for index in map(NodeIndex, range(case["n_nodes"])):
        leaf, root = index % 2 == 0, index == case["root"]
        assert (None if leaf else tree_math.left(index)) == case["left"][index]
        assert (None if leaf else tree_math.right(index)) == case["right"][index]
        assert (None if root else tree_math.parent(index)) == case["parent"][index]
        assert (None if root else tree_math.sibling(index)) == case["sibling"][index]


def deserialization(case: Case) -> None:
    header = unhex(case["vlbytes_header"])
    assert decode(header, "varint", Reader.varint) == case["length"]


def crypto_basics(case: Case) -> None:
    suite = suite_for(case["cipher_suite"])
    v = case["ref_hash"]
    assert suite.ref_hash(v["label"], unhex(v["value"])).hex() == v["out"]
    v = case["expand_with_label"]
    out = suite.expand_with_label(unhex(v["secret"]), v["label"], unhex(v["context"]), v["length"])
    assert out.hex() == v["out"]
    v = case["derive_secret"]
    assert suite.derive_secret(unhex(v["secret"]), v["label"]).hex() == v["out"]
    v = case["derive_tree_secret"]
    out = suite.derive_tree_secret(unhex(v["secret"]), v["label"], v["generation"], v["length"])
    assert out.hex() == v["out"]
    v = case["sign_with_label"]
    public, content, label = unhex(v["pub"]), unhex(v["content"]), v["label"]
    suite.verify_with_label(public, label, content, unhex(v["signature"]))
    own = suite.sign_with_label(suite.signature.load(unhex(v["priv"])), label, content)
    suite.verify_with_label(public, label, content, own)
    v = case["encrypt_with_label"]
    pair = unhex(v["priv"]), unhex(v["pub"])
    context, plaintext = unhex(v["context"]), unhex(v["plaintext"])
    for sealed in (
        (unhex(v["kem_output"]), unhex(v["ciphertext"])),
        suite.encrypt_with_label(pair[1], v["label"], context, plaintext),
    ):
        assert suite.decrypt_with_label(pair, v["label"], context, sealed) == plaintext


def secret_tree(case: Case) -> None:
    suite = suite_for(case["cipher_suite"])
    data = case["sender_data"]
    key, nonce = sender_data_key(
        suite, unhex(data["sender_data_secret"]), unhex(data["ciphertext"])
    )
    assert (key.hex(), nonce.hex()) == (data["key"], data["nonce"])
    tree = SecretTree(
        suite=suite, leaf_count=len(case["leaves"]), root=unhex(case["encryption_secret"])
    )
    for index, generations in enumerate(case["leaves"]):
        for want in generations:
            for kind in ("handshake", "application"):
                tree, (key, nonce) = tree.take(
                    LeafIndex(index), want["generation"], handshake=kind == "handshake"
                )
                assert key.hex() == want[f"{kind}_key"]
                assert nonce.hex() == want[f"{kind}_nonce"]


def _context(suite: CipherSuite, case: Case, *, epoch: int, tree_hash: bytes) -> GroupContext:
    return GroupContext(
        cipher_suite=suite.value,
        group_id=unhex(case["group_id"]),
        epoch=epoch,
        tree_hash=tree_hash,
        confirmed_transcript_hash=unhex(case["confirmed_transcript_hash"]),
        extensions=(),
    )


def message_protection(case: Case) -> None:
    suite = suite_for(case["cipher_suite"])
    context = _context(
        suite, case, epoch=case["epoch"], tree_hash=unhex(case["tree_hash"])
    ).encode()
    for kind in ("proposal", "commit", "application"):
        raw = unhex(case[kind])
        private = decode_message(unhex(case[f"{kind}_priv"]))
        assert isinstance(private, PrivateMessage)
        message = _unprotect(suite, case, private, context)
        body = message.content.body
        assert body == raw or message.content.content == raw
        tree = SecretTree(suite=suite, leaf_count=2, root=unhex(case["encryption_secret"]))
        _, generation, key = tree.next(LeafIndex(1), handshake=kind != "application")
        again = protect_private(
            suite,
            _signed(suite, case, message, WireFormat.PRIVATE_MESSAGE, context),
            generation=generation,
            message_key=key,
            sender_data_secret=unhex(case["sender_data_secret"]),
        )
        assert _unprotect(suite, case, again, context).content == message.content
        _public(suite, case, kind, message, context)


def _signed(
    suite: CipherSuite,
    case: Case,
    message: AuthenticatedContent,
    wire_format: WireFormat,
    context: bytes,
) -> AuthenticatedContent:
    signer = suite.signature.load(unhex(case["signature_priv"]))
    signature = sign_content(
        suite, signer, message.content, wire_format=wire_format, context=context
    )
    return AuthenticatedContent(
        wire_format=wire_format,
        content=message.content,
        signature=signature,
        confirmation_tag=message.confirmation_tag,
    )


def _unprotect(
    suite: CipherSuite, case: Case, message: PrivateMessage, context: bytes
) -> AuthenticatedContent:
    sender = open_sender_data(suite, message, unhex(case["sender_data_secret"]))
    assert sender.leaf_index == 1
    tree = SecretTree(suite=suite, leaf_count=2, root=unhex(case["encryption_secret"]))
    handshake = message.content_type.name != "APPLICATION"
    _, key = tree.take(sender.leaf_index, sender.generation, handshake=handshake)
    opened = unprotect_private(suite, message, sender, key)
    verify_content(suite, unhex(case["signature_pub"]), opened, context=context)
    return opened


def _public(
    suite: CipherSuite, case: Case, kind: str, message: AuthenticatedContent, context: bytes
) -> None:
    membership_key = unhex(case["membership_key"])
    signed = _signed(suite, case, message, WireFormat.PUBLIC_MESSAGE, context)
    protected = protect_public(suite, signed, membership_key=membership_key, context=context)
    if kind == "application":
        with pytest.raises(InvalidError):
            unprotect_public(suite, protected, membership_key=membership_key, context=context)
        return
    given = decode_message(unhex(case[f"{kind}_pub"]))
    assert isinstance(given, PublicMessage)
    for candidate in (given, protected):
        opened = unprotect_public(suite, candidate, membership_key=membership_key, context=context)
        verify_content(suite, unhex(case["signature_pub"]), opened, context=context)
        assert opened.content.body == unhex(case[kind])


def key_schedule_case(case: Case) -> None:
    suite = suite_for(case["cipher_suite"])
    init_secret = unhex(case["initial_init_secret"])
    for epoch, want in enumerate(case["epochs"]):
        context = _context(
            suite,
            {**want, "group_id": case["group_id"]},
            epoch=epoch,
            tree_hash=unhex(want["tree_hash"]),
        ).encode()
        assert context.hex() == want["group_context"]
        joiner = joiner_secret(
            suite,
            init_secret=init_secret,
            commit_secret=unhex(want["commit_secret"]),
            context=context,
        )
        got = key_schedule(
            suite, joiner=joiner, psk_secret=unhex(want["psk_secret"]), context=context
        )
        for name in ("joiner_secret", "welcome_secret", "encryption_secret"):
            assert getattr(got, name).hex() == want[name]
        for name in type(got.secrets).__slots__:
            assert getattr(got.secrets, name).hex() == want[name]
        _, external = suite.hpke.derive_key_pair(got.secrets.external_secret)
        assert external.hex() == want["external_pub"]
        exporter = want["exporter"]
        secret = exported_secret(
            suite,
            got.secrets.exporter_secret,
            label=exporter["label"],
            context=unhex(exporter["context"]),
            length=exporter["length"],
        )
        assert secret.hex() == exporter["secret"]
        init_secret = got.secrets.init_secret


def psk_secret_case(case: Case) -> None:
    suite = suite_for(case["cipher_suite"])
    ids = [
        ExternalPSK(psk_id=unhex(p["psk_id"]), psk_nonce=unhex(p["psk_nonce"]))
        for p in case["psks"]
    ]
    keys = {psk: unhex(p["psk"]) for psk, p in zip(ids, case["psks"], strict=True)}
    find = {psk.encode(): key for psk, key in keys.items()}
    secret = psk_secret(suite, ids, lambda psk: find.get(psk.encode()))
    assert secret.hex() == case["psk_secret"]


def transcript_hashes(case: Case) -> None:
    suite = suite_for(case["cipher_suite"])
    message = AuthenticatedContent.decode(unhex(case["authenticated_content"]))
    assert isinstance(message.content.content, Commit)
    confirmed = confirmed_transcript_hash(
        suite, unhex(case["interim_transcript_hash_before"]), message
    )
    assert confirmed.hex() == case["confirmed_transcript_hash_after"]
    tag = message.confirmation_tag or b""
    suite.verify_mac(unhex(case["confirmation_key"]), confirmed, tag)
    interim = interim_transcript_hash(suite, confirmed, tag)
    assert interim.hex() == case["interim_transcript_hash_after"]


def _key_package(data: str) -> KeyPackage:
    body = decode_message(unhex(data))
    assert isinstance(body, KeyPackage)
    return body


def welcome(case: Case) -> None:
    suite = suite_for(case["cipher_suite"])
    own = KeyPackageSecrets(
        suite=suite,
        key_package=_key_package(case["key_package"]),
        init_key=unhex(case["init_priv"]),
        encryption_key=b"",
        signer=suite.signature.generate(),
    )
    body = decode_message(unhex(case["welcome"]))
    assert isinstance(body, Welcome)
    opened = open_welcome(body, own, lambda _: None)
    info = opened.info
    suite.verify_with_label(
        unhex(case["signer_pub"]), "GroupInfoTBS", info.to_be_signed(), info.signature
    )
    schedule = key_schedule(
        suite,
        joiner=opened.secrets.joiner_secret,
        psk_secret=opened.psk_secret,
        context=info.group_context.encode(),
    )
    suite.verify_mac(
        schedule.secrets.confirmation_key,
        info.group_context.confirmed_transcript_hash,
        info.confirmation_tag,
    )


def tree_operations(case: Case) -> None:
    suite = suite_for(case["cipher_suite"])
    tree = RatchetTree.decode(suite, unhex(case["tree_before"]))
    assert tree.tree_hash().hex() == case["tree_hash_before"]
    changed = tree.copy()
    proposal = decode(unhex(case["proposal"]), "Proposal", read_proposal)
    if isinstance(proposal, Add):
        changed.add(proposal.key_package.leaf_node)
    elif isinstance(proposal, Update):
        changed.update(LeafIndex(case["proposal_sender"]), proposal.leaf_node)
    else:
        assert isinstance(proposal, Remove)
        changed.remove(proposal.removed)
    assert changed.encode().hex() == case["tree_after"]
    assert changed.tree_hash().hex() == case["tree_hash_after"]
    assert tree.encode().hex() == case["tree_before"]


def tree_validation(case: Case) -> None:
    suite = suite_for(case["cipher_suite"])
    tree = RatchetTree.decode(suite, unhex(case["tree"]))
    for index, want in enumerate(case["resolutions"]):
        assert tree.resolution(NodeIndex(index)) == want
    for index, want in enumerate(case["tree_hashes"]):
        assert tree.hash_of(NodeIndex(index)).hex() == want
    tree.verify()
    for leaf_index, leaf in tree.leaves():
        leaf.verify_signature(suite, group_id=unhex(case["group_id"]), leaf_index=leaf_index)


def treekem(case: Case) -> None:
    suite = suite_for(case["cipher_suite"])
    before = RatchetTree.decode(suite, unhex(case["ratchet_tree"]))
    privates: dict[int, PrivateKeys] = {}
    for own in case["leaves_private"]:
        keys = {NodeIndex(2 * own["index"]): unhex(own["encryption_priv"])}
        for item in own["path_secrets"]:
            node = NodeIndex(item["node"])
            keys.update(derive_private_keys(before, [node], unhex(item["path_secret"]))[1])
        privates[own["index"]] = keys
    signers = {own["index"]: unhex(own["signature_priv"]) for own in case["leaves_private"]}
    for want in case["update_paths"]:
        _received_path(suite, case, before, privates, want)
        _own_path(suite, case, before, privates, want["sender"], signers)


def _received_path(
    suite: CipherSuite,
    case: Case,
    before: RatchetTree,
    privates: dict[int, PrivateKeys],
    want: Case,
) -> None:
    sender = LeafIndex(want["sender"])
    path = UpdatePath.decode(unhex(want["update_path"]))
    tree = before.copy()
    apply_path(tree, sender, path)
    assert tree.tree_hash().hex() == want["tree_hash_after"]
    context = _context(suite, case, epoch=case["epoch"], tree_hash=tree.tree_hash()).encode()
    for index, path_secret in enumerate(want["path_secrets"]):
        if path_secret is None:
            continue
        leaf = LeafIndex(index)
        commit_secret, keys = decrypt_path(
            tree, sender, path, own=(leaf, privates[index]), context=context, added=frozenset()
        )
        assert commit_secret.hex() == want["commit_secret"]
        lowest = [tree_math.common_ancestor(leaf, sender)]
        _, expected = derive_private_keys(tree, lowest, unhex(path_secret))
        assert expected.items() <= dict(keys).items()


def _own_path(
    suite: CipherSuite,
    case: Case,
    before: RatchetTree,
    privates: dict[int, PrivateKeys],
    sender: int,
    signers: dict[int, bytes],
) -> None:
    tree = before.copy()
    leaf = tree.leaf(sender)
    assert leaf is not None
    content = LeafContent(
        credential=leaf.credential, capabilities=leaf.capabilities, extensions=leaf.extensions
    )
    made = create_path(
        tree,
        LeafIndex(sender),
        content,
        signer=suite.signature.load(signers[sender]),
        group_id=unhex(case["group_id"]),
    )
    context = _context(suite, case, epoch=case["epoch"], tree_hash=tree.tree_hash()).encode()
    path = encrypt_path(tree, made, context=context, added=frozenset())
    received = before.copy()
    apply_path(received, LeafIndex(sender), path)
    assert received.tree_hash() == tree.tree_hash()
    for index, keys in privates.items():
        if index != sender:
            commit_secret, _ = decrypt_path(
                received,
                LeafIndex(sender),
                path,
                own=(LeafIndex(index), keys),
                context=context,
                added=frozenset(),
            )
            assert commit_secret == made.commit_secret


def messages(case: Case) -> None:
    for name in ("mls_welcome", "mls_group_info", "mls_key_package", "private_message"):
        assert encode_message(decode_message(unhex(case[name]))).hex() == case[name]
    for name in ("application", "proposal", "commit"):
        data = case[f"public_message_{name}"]
        assert encode_message(decode_message(unhex(data))).hex() == data
    tree = RatchetTree.decode(suite_for(1), unhex(case["ratchet_tree"]))
    assert tree.encode().hex() == case["ratchet_tree"]
    assert GroupSecrets.decode(unhex(case["group_secrets"])).encode().hex() == case["group_secrets"]
    assert Commit.decode(unhex(case["commit"])).encode().hex() == case["commit"]
    types = ("add", "update", "remove", "pre_shared_key", "re_init", "external_init")
    for number, name in enumerate((*types, "group_context_extensions"), 1):
        body = unhex(case[f"{name}_proposal"])
        data = number.to_bytes(2, "big") + body
        assert encode_proposal(decode(data, "Proposal", read_proposal)) == data


def passive_client(case: Case) -> None:
    suite = suite_for(case["cipher_suite"])
    own = KeyPackageSecrets(
        suite=suite,
        key_package=_key_package(case["key_package"]),
        init_key=unhex(case["init_priv"]),
        encryption_key=unhex(case["encryption_priv"]),
        signer=suite.signature.load(unhex(case["signature_priv"])),
    )
    own.check()
    psks = {unhex(p["psk_id"]): unhex(p["psk"]) for p in case["external_psks"]}
    tree = case["ratchet_tree"]
    group = Group.join(
        unhex(case["welcome"]),
        own,
        authenticate=accept,
        ratchet_tree=unhex(tree) if tree else None,
        psks=psks,
    )
    assert group.epoch_authenticator.hex() == case["initial_epoch_authenticator"]
    for epoch in case["epochs"]:
        for proposal in epoch["proposals"]:
            group, _ = group.process(unhex(proposal), authenticate=accept, psks=psks)
        group, staged = group.process(unhex(epoch["commit"]), authenticate=accept, psks=psks)
        assert isinstance(staged, StagedCommit)
        assert staged.group is not None
        group = group.merge(staged.group)
        assert group.epoch_authenticator.hex() == epoch["epoch_authenticator"]


KINDS: dict[str, Callable[[Case], None]] = {
    "n_leaves": tree_math_case,
    "vlbytes_header": deserialization,
    "ref_hash": crypto_basics,
    "sender_data": secret_tree,
    "application_priv": message_protection,
    "initial_init_secret": key_schedule_case,
    "psk_secret": psk_secret_case,
    "interim_transcript_hash_before": transcript_hashes,
    "signer_pub": welcome,
    "tree_before": tree_operations,
    "resolutions": tree_validation,
    "leaves_private": treekem,
    "mls_welcome": messages,
    "initial_epoch_authenticator": passive_client,
}
"""The checks, by a key that only their vectors have."""


def run_case(case: Case) -> None:
    """Check one case, of whichever kind its keys say."""
    for key, check in KINDS.items():
        if key in case:
            check(case)
            return
    raise AssertionError("no kind of vector that is known")
