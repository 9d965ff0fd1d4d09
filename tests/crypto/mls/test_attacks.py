"""Published attacks on group encryption, on MLS: ghosts, confusion, replay, reuse, garbage."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from crypto.codec import opaque, u16
from crypto.errors import (
    DecodeError,
    InvalidError,
    KeyUsedError,
    VerificationError,
)
from crypto.mls import Add, Group, KeyPackage, StagedCommit
from crypto.mls.external import join_by_external_commit
from crypto.mls.framing import (
    PrivateMessage,
    PublicMessage,
    Sender,
    SenderType,
    WireFormat,
    decode_message,
    encode_message,
)
from crypto.mls.proposal import Commit, HPKECiphertext, UpdatePath
from crypto.mls.protection import (
    SenderData,
    guarded_nonce,
    open_sender_data,
    protect_private,
    sender_data_key,
)
from crypto.mls.tree_math import LeafIndex
from tests.crypto.mls.ward import (
    DOCUMENTED,
    SUITE,
    advance,
    anyone,
    assemble,
    breaks,
    by_roster,
    commit_anyway,
    everyone_understands,
    found,
    hear,
    key_package,
    pair,
    read,
    said_of,
    saved,
    send_bare,
    send_public,
    sign_as,
    stage,
    trio,
)
from tests.depth import DEPTH

MUTATIONS = 10_000 * DEPTH

# -- 1: a ghost member -----------------------------------------------------------------------------


def test_no_mutation_of_a_commit_changes_the_roster() -> None:
    osei, lindqvist, _ = trio()
    ghost = key_package("Dubois")
    _, staged = osei.commit([Add(ghost.key_package)], authenticate=by_roster, public=True)
    genuine = staged.message
    donor = osei.commit(authenticate=by_roster, public=True)[1].message
    before = saved(lindqvist)
    chance = random.Random("ghost")
    for _ in range(MUTATIONS):
        changed = bytearray(genuine)
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(len(changed))
            kind = chance.randrange(4)
            if kind == 0:
                changed[at] ^= 1 << chance.randrange(8)
            elif kind == 1:
                changed[at : at + 4] = chance.randbytes(4)
            elif kind == 2:
                del changed[at : at + chance.randint(1, 8)]
            else:
                changed[at : at + 16] = donor[at : at + 16]
        if changed != genuine:
            with pytest.raises(DOCUMENTED):
                lindqvist.process(bytes(changed), authenticate=anyone)
    assert saved(lindqvist) == before


def test_the_relay_cannot_add_a_member_by_anything_that_it_can_make() -> None:
    osei, lindqvist, _ = trio()
    ghost, before = key_package("Dubois"), saved(lindqvist)
    add = Add(ghost.key_package)
    forged = [
        send_bare(sign_as(osei, add, signer=ghost.signer)),
        send_bare(sign_as(osei, Commit((add,), None), signer=ghost.signer, tag=bytes(32))),
        encode_message(ghost.key_package),
        found("Dubois").commit([add], authenticate=anyone)[1].welcome or b"",
        found("Dubois").group_info(external_join=True),
    ]
    # The relay knows the group's id and epoch, and signs as the ghost, in the name of a member.
    stranger = found("Dubois")
    context = replace(stranger.context, group_id=osei.group_id, epoch=osei.epoch)
    posing = replace(stranger, current=replace(stranger.current, context=context))
    forged.append(send_public(posing, sign_as(posing, add)))
    forged.append(posing.commit([add], authenticate=anyone)[1].message)
    for message in forged:
        with pytest.raises((InvalidError, VerificationError, DecodeError)):
            lindqvist.process(message, authenticate=by_roster)
    assert saved(lindqvist) == before


def test_a_member_that_the_directory_does_not_know_is_refused_by_everyone() -> None:
    osei, lindqvist, marchetti = trio()
    ghost = key_package("Ghost", content=said_of("Ghost"))
    with pytest.raises(VerificationError):
        osei.commit([Add(ghost.key_package)], authenticate=by_roster)
    _, staged = osei.commit([Add(ghost.key_package)], authenticate=anyone)
    for member in (lindqvist, marchetti):
        before = saved(member)
        with pytest.raises(VerificationError):
            member.process(staged.message, authenticate=by_roster)
        assert saved(member) == before


def test_a_joiner_refuses_a_group_in_which_a_ghost_sits() -> None:
    osei, _, _ = trio()
    ghost = key_package("Ghost", content=said_of("Ghost"))
    osei, staged = osei.commit([Add(ghost.key_package)], authenticate=anyone)
    assert staged.group is not None
    haunted = osei.merge(staged.group)
    own = key_package("Weber")
    _, staged = haunted.commit([Add(own.key_package)], authenticate=by_roster)
    with pytest.raises(VerificationError):
        Group.join(staged.welcome or b"", own, authenticate=by_roster)
    with pytest.raises(VerificationError):
        join_by_external_commit(haunted.group_info(external_join=True), own, authenticate=by_roster)


def test_nobody_takes_another_members_name_by_update_or_path() -> None:
    osei, lindqvist, _ = trio()
    impostor = said_of("Lindqvist")
    _, update = osei.propose_update(impostor)
    with pytest.raises(VerificationError):
        hear(lindqvist, update).commit(authenticate=by_roster)
    _, staged = osei.commit(content=impostor, authenticate=anyone)
    with pytest.raises(VerificationError):
        lindqvist.process(staged.message, authenticate=by_roster)


def test_an_external_committer_that_the_directory_does_not_know_is_refused() -> None:
    osei, _, _ = trio()
    ghost = key_package("Ghost", content=said_of("Ghost"))
    staged = join_by_external_commit(
        osei.group_info(external_join=True), ghost, authenticate=anyone
    )
    with pytest.raises(VerificationError):
        osei.process(staged.message, authenticate=by_roster)


# -- 2 and 3: one object passed off as another -----------------------------------------------------


def test_no_message_passes_where_another_kind_is_wanted() -> None:
    osei, lindqvist = pair()
    own = key_package("Weber")
    committer, staged = osei.commit([Add(own.key_package)], authenticate=by_roster)
    assert staged.welcome is not None
    kinds = {
        "welcome": staged.welcome,
        "group_info": osei.group_info(external_join=True),
        "key_package": encode_message(own.key_package),
        "application": committer.encrypt(b"text")[1],
        "commit": staged.message,
    }
    receivers: dict[str, Callable[[bytes], object]] = {
        "welcome": lambda data: Group.join(data, own, authenticate=anyone),
        "group_info": lambda data: join_by_external_commit(data, own, authenticate=anyone),
        "key_package": KeyPackage.decode,
        "group": lambda data: lindqvist.process(data, authenticate=anyone),
    }
    for kind, message in kinds.items():
        for wanted, receive in receivers.items():
            if kind == wanted or (wanted == "group" and kind in ("application", "commit")):
                continue
            with pytest.raises((InvalidError, DecodeError)):
                receive(message)


def test_a_body_under_another_wire_format_is_refused() -> None:
    osei, lindqvist = pair()
    messages = [
        osei.encrypt(b"text")[1],
        osei.commit(authenticate=by_roster)[1].message,
        osei.commit(authenticate=by_roster, public=True)[1].message,
        osei.propose_update(public=True)[1],
    ]
    for message in messages:
        genuine = int.from_bytes(message[2:4], "big")
        for wire_format in range(8):
            if wire_format != genuine:
                with pytest.raises(DOCUMENTED):
                    lindqvist.process(
                        message[:2] + u16(wire_format) + message[4:], authenticate=anyone
                    )


def test_a_signature_for_one_wire_format_does_not_serve_the_other() -> None:
    osei, lindqvist = pair()
    update = decode_message(osei.propose_update(public=True)[1])
    assert isinstance(update, PublicMessage)
    # Encrypted, but signed as if it were sent in the open.
    _, generation, key = osei.secret_tree.next(LeafIndex(0), handshake=True)
    private = protect_private(
        SUITE,
        update.message,
        generation=generation,
        message_key=key,
        sender_data_secret=osei.current.secrets.sender_data_secret,
    )
    with pytest.raises(VerificationError):
        lindqvist.process(encode_message(private), authenticate=anyone)


def test_no_signature_serves_another_kind_of_object() -> None:
    # Every label of RFC 9420, section 5.1.2, against every other, over the same bytes.
    labels = ("FramedContentTBS", "LeafNodeTBS", "KeyPackageTBS", "GroupInfoTBS")
    signer = SUITE.signature.generate()
    for made in labels:
        signature = SUITE.sign_with_label(signer, made, b"same bytes")
        for wanted in labels:
            if made == wanted:
                SUITE.verify_with_label(signer.public_key, wanted, b"same bytes", signature)
                continue
            with pytest.raises(VerificationError):
                SUITE.verify_with_label(signer.public_key, wanted, b"same bytes", signature)


def test_a_ciphertext_for_one_purpose_does_not_open_for_another() -> None:
    private, public = SUITE.hpke.generate_key_pair()
    sealed = SUITE.encrypt_with_label(public, "Welcome", b"context", b"secret")
    for label, context in (("UpdatePathNode", b"context"), ("Welcome", b"other")):
        with pytest.raises(VerificationError):
            SUITE.decrypt_with_label((private, public), label, context, sealed)


def test_a_message_of_one_group_is_refused_by_another() -> None:
    osei, _ = pair()
    other = assemble(2)[1]
    before = saved(other)
    for message in (osei.encrypt(b"text")[1], osei.propose_update(public=True)[1]):
        with breaks("6"):
            other.process(message, authenticate=anyone)
    assert saved(other) == before


def test_a_content_type_in_the_open_must_be_the_one_that_was_encrypted() -> None:
    osei, lindqvist = pair()
    body = decode_message(osei.encrypt(b"text")[1])
    assert isinstance(body, PrivateMessage)
    for kind in (2, 3):
        relabelled = encode_message(replace(body, content_type=type(body.content_type)(kind)))
        with pytest.raises(VerificationError):
            lindqvist.process(relabelled, authenticate=anyone)


# -- 4: replay -------------------------------------------------------------------------------------


def test_a_replayed_message_is_refused_however_often_and_also_after_a_restart() -> None:
    osei, lindqvist = pair()
    sent = []
    for number in range(10):
        osei, message = osei.encrypt(bytes([number]))
        sent.append(message)
    chance = random.Random("replay")
    replayed = [message for message in sent for _ in range(chance.randint(2, 10))]
    chance.shuffle(replayed)
    shown = []
    for message in replayed:
        try:
            lindqvist, text = read(Group.load(saved(lindqvist)), message)
        except KeyUsedError:
            continue
        shown.append(text)
    assert sorted(shown) == [bytes([number]) for number in range(10)]


# -- 9: two copies of one state --------------------------------------------------------------------


def test_two_copies_of_a_state_never_use_a_key_with_the_same_nonce() -> None:
    osei, lindqvist = pair()
    copies = [Group.load(saved(osei)) for _ in range(2)]
    used: set[tuple[bytes, bytes]] = set()
    keys: set[bytes] = set()
    rounds = 1000
    for number in range(rounds):
        for at in range(2):
            copies[at], message = copies[at].encrypt(number.to_bytes(2, "big"))
            body = decode_message(message)
            assert isinstance(body, PrivateMessage)
            sender = open_sender_data(SUITE, body, osei.current.secrets.sender_data_secret)
            if at == 0:
                tree, key = lindqvist.secret_tree.take(
                    LeafIndex(0), sender.generation, handshake=False
                )
                lindqvist = replace(lindqvist, secret_tree=tree)
            keys.add(key[0])
            used.add((key[0], guarded_nonce(key[1], sender.reuse_guard)))
    assert len(keys) == rounds  # a copied state does use each key twice
    assert len(used) == 2 * rounds  # and the guard still parts the nonces


def test_a_copied_state_is_noticed_by_the_second_message_of_a_generation() -> None:
    osei, lindqvist = pair()
    copy = Group.load(saved(osei))
    lindqvist, _ = read(lindqvist, osei.encrypt(b"one")[1])
    with pytest.raises(KeyUsedError):
        lindqvist.process(copy.encrypt(b"two")[1], authenticate=by_roster)


# -- 12: an insider's garbage ----------------------------------------------------------------------


def test_a_garbage_path_secret_stops_its_reader_cleanly_and_can_be_dropped() -> None:
    groups = advance(assemble(8))
    before = [saved(group) for group in groups]

    def garble(path: UpdatePath, _: bytes) -> UpdatePath:
        nodes = tuple(
            replace(
                node,
                encrypted_path_secret=tuple(
                    HPKECiphertext(c.kem_output, os.urandom(len(c.ciphertext)))
                    for c in node.encrypted_path_secret
                ),
            )
            for node in path.nodes
        )
        return UpdatePath(path.leaf_node, nodes)

    message = commit_anyway(groups[3], alter=garble)
    for at, group in enumerate(groups):
        if at == 3:
            continue
        with pytest.raises(VerificationError):
            group.process(message, authenticate=anyone)
        assert saved(group) == before[at]
    # Nobody is stopped: the epoch goes on, and so does the next honest Commit.
    everyone_understands(advance(everyone_understands(groups), by=5))


@pytest.mark.parametrize("victims", [1, 2, 3])
def test_a_path_that_is_garbage_for_some_is_staged_by_the_rest_and_drops_alike(
    victims: int,
) -> None:
    groups = advance(assemble(8), by=7)

    def garble(path: UpdatePath, _: bytes) -> UpdatePath:
        nodes = list(path.nodes)
        for at in range(victims):
            sealed = nodes[at].encrypted_path_secret
            wrong = tuple(HPKECiphertext(c.kem_output, bytes(48)) for c in sealed)
            nodes[at] = replace(nodes[at], encrypted_path_secret=wrong)
        return UpdatePath(path.leaf_node, tuple(nodes))

    message = commit_anyway(groups[0], alter=garble)
    staged = 0
    for group in groups[1:]:
        before = saved(group)
        try:
            received = stage(group, message)
        except VerificationError:
            assert saved(group) == before
            continue
        staged += 1
        assert received.group is not None
        assert saved(group) == before
    assert 0 <= staged < 7
    everyone_understands(groups)


def test_random_bytes_for_a_commit_change_nothing() -> None:
    osei, lindqvist = pair()
    before = saved(lindqvist)
    head = b"\x00\x01\x00\x01" + opaque(osei.group_id) + osei.epoch.to_bytes(8, "big")
    for size in range(0, 2000, 20):
        for start in (b"", head, b"\x00\x01\x00\x02" + head[4:]):
            with pytest.raises(DOCUMENTED):
                lindqvist.process(start + os.urandom(size), authenticate=anyone)
    assert saved(lindqvist) == before


def test_a_new_member_cannot_propose_anybody_but_itself() -> None:
    osei, _ = pair()
    own, other = key_package("Weber"), key_package("Xu")
    message = sign_as(
        osei,
        Add(other.key_package),
        sender=Sender(SenderType.NEW_MEMBER_PROPOSAL),
        signer=own.signer,
    )
    with pytest.raises(VerificationError):
        osei.process(send_bare(message), authenticate=by_roster)


def test_a_staged_commit_shows_who_comes_and_goes_before_it_is_merged() -> None:
    osei, lindqvist, _ = trio()
    _, sent = osei.commit(
        [Add(key_package("Weber").key_package)],
        authenticate=by_roster,
        authenticated_data=b"cursors",
    )
    received = stage(lindqvist, sent.message)
    assert isinstance(received, StagedCommit)
    assert (received.committer, received.external) == (LeafIndex(0), False)
    assert received.added == sent.added == (LeafIndex(3),)
    assert received.removed == received.updated == ()
    assert received.authenticated_data == b"cursors"
    assert [type(item.proposal) for item in received.proposals] == [Add]
    assert received.message == b""
    assert received.welcome is None


def test_padding_that_is_not_nought_is_refused() -> None:
    # It would let a sender hide bytes that no signature covers (RFC 9420, section 6.3.1).
    osei, lindqvist = pair()
    _, generation, key = osei.secret_tree.next(LeafIndex(0), handshake=False)
    message = sign_as(osei, b"text", wire_format=WireFormat.PRIVATE_MESSAGE)
    for tail in (b"\0" * 9, b"\0" * 8 + b"\1", b"\1" + b"\0" * 8):
        plaintext = message.content.body + opaque(message.signature) + tail
        nonce = guarded_nonce(key[1], b"grd!")
        body = PrivateMessage(
            group_id=osei.group_id,
            epoch=osei.epoch,
            content_type=message.content.content_type,
            authenticated_data=b"",
            encrypted_sender_data=b"",
            ciphertext=b"",
        )
        ciphertext = SUITE.aead.seal(key[0], nonce, body.content_aad(), plaintext)
        sender_key = sender_data_key(SUITE, osei.current.secrets.sender_data_secret, ciphertext)
        sender = SenderData(LeafIndex(0), generation, b"grd!").encode()
        sealed = SUITE.aead.seal(*sender_key, body.sender_data_aad(), sender)
        forged = encode_message(replace(body, encrypted_sender_data=sealed, ciphertext=ciphertext))
        if not any(tail):
            assert read(lindqvist, forged)[1] == b"text"
            continue
        with pytest.raises(DecodeError):
            lindqvist.process(forged, authenticate=anyone)
