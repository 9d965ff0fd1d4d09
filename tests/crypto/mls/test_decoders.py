"""Any bytes give a value or a documented error, and what decodes re-encodes to the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto.codec import Reader, decode
from crypto.errors import DecodeError, InvalidError
from crypto.mls import Add, Capabilities, Credential, KeyPackage, KeyPackageSecrets
from crypto.mls.external import (
    join_by_external_commit,
    propose_as_external_sender,
    propose_own_add,
)
from crypto.mls.framing import (
    AuthenticatedContent,
    PublicMessage,
    Sender,
    decode_message,
    encode_message,
)
from crypto.mls.group_info import GroupContext, GroupInfo, GroupSecrets, Welcome
from crypto.mls.leaf_node import Extension, LeafNode
from crypto.mls.proposal import (
    Commit,
    ExternalInit,
    ExternalPSK,
    GroupContextExtensions,
    PreSharedKey,
    Proposal,
    ReInit,
    ResumptionPSK,
    ResumptionPSKUsage,
    UpdatePath,
    encode_proposal,
    read_proposal,
)
from crypto.mls.protection import SenderData
from crypto.mls.ratchet_tree import RatchetTree, encode_node, read_node
from crypto.mls.recording import EpochDecryption
from crypto.mls.secret_tree import decode_secret_node, encode_secret_node
from crypto.mls.tree_math import LeafIndex
from tests.crypto.mls.mutation import mutated
from tests.crypto.mls.ward import (
    DOCUMENTED,
    SUITE,
    anyone,
    by_roster,
    evict,
    key_package,
    pair,
    read,
    saved,
    sign_as,
    trio,
)


@dataclass(frozen=True, kw_only=True)
class Codec:
    """A decoder, its encoder, and valid encodings to begin from."""

    decode: Callable[[bytes], object]
    encode: Callable[[object], bytes]
    examples: tuple[bytes, ...]


class Encodable(Protocol):
    """A struct of the wire or of the store."""

    def encode(self) -> bytes: ...


def _of(read: Callable[[Reader], Encodable], *examples: bytes) -> Codec:
    """Return the codec of a struct, from how it is read."""
    return Codec(
        decode=lambda data: decode(data, "Struct", read),
        encode=lambda value: value.encode(),  # type: ignore[attr-defined]  # an Encodable
        examples=examples,
    )


PSKS = (
    ExternalPSK(psk_id=b"cupboard", psk_nonce=bytes(32)),
    ResumptionPSK(
        usage=ResumptionPSKUsage.APPLICATION,
        psk_group_id=b"ward 7",
        psk_epoch=3,
        psk_nonce=bytes(32),
    ),
)


def _proposals() -> tuple[Proposal, ...]:
    extension = Extension(0xF001, b"data")
    update = next(iter(pair()[0].propose_update()[0].pending.values())).sent.proposal
    return (
        Add(key_package("Weber").key_package),
        update,
        evict(1),
        *(PreSharedKey(psk) for psk in PSKS),
        ReInit(group_id=b"next", version=1, cipher_suite=3, extensions=(extension,)),
        ExternalInit(bytes(32)),
        GroupContextExtensions((extension,)),
    )


def _messages() -> tuple[bytes, ...]:
    osei, _ = pair()
    own, signer = key_package("Weber"), SUITE.signature.generate()
    staged = osei.commit([Add(own.key_package)], authenticate=by_roster, public=True)[1]
    info = osei.group_info(external_join=True)
    return (
        osei.encrypt(b"text", authenticated_data=b"data")[1],
        *(osei.propose(p, public=True)[1] for p in (evict(1), Add(own.key_package))),
        osei.propose_update()[1],
        staged.message,
        staged.welcome or b"",
        info,
        osei.group_info(with_tree=False),
        encode_message(own.key_package),
        join_by_external_commit(info, key_package("Xu"), authenticate=by_roster).message,
        propose_own_add(own, group_id=osei.group_id, epoch=osei.epoch),
        propose_as_external_sender(
            SUITE,
            signer,
            evict(1),
            sender_index=0,
            group_id=osei.group_id,
            epoch=osei.epoch,
        ),
    )


def _commit() -> Commit:
    body = decode_message(trio()[0].commit(authenticate=by_roster, public=True)[1].message)
    assert isinstance(body, PublicMessage)
    content = body.message.content.content
    assert isinstance(content, Commit)
    return content


def _codecs_of_leaves() -> dict[str, Codec]:
    """Return the decoders of the tree and what stands in it."""
    osei = trio()[0]
    package = key_package("Weber")
    leaf = package.key_package.leaf_node
    x509 = Credential.x509([b"leaf", b"authority"])
    return {
        "LeafNode": _of(LeafNode.read, leaf.encode()),
        "Capabilities": _of(Capabilities.read, leaf.capabilities.encode()),
        "Credential": _of(Credential.read, leaf.credential.encode(), x509.encode()),
        "KeyPackage": _of(KeyPackage.read, package.key_package.encode()),
        "Node": Codec(
            decode=lambda data: decode(data, "Node", read_node),
            encode=encode_node,  # type: ignore[arg-type]  # what read_node gave
            examples=tuple(encode_node(n) for n in osei.current.tree.nodes if n is not None),
        ),
        "ratchet_tree": Codec(
            decode=lambda data: RatchetTree.decode(SUITE, data),
            encode=lambda tree: tree.encode(),  # type: ignore[attr-defined]  # a RatchetTree
            examples=(osei.ratchet_tree, pair()[0].ratchet_tree),
        ),
    }


def _codecs_of_messages() -> dict[str, Codec]:
    """Return the decoders of what is sent."""
    osei = trio()[0]
    commit = _commit()
    by_reference = Commit((bytes(32), evict(1)), None)
    return {
        "MLSMessage": Codec(
            decode=decode_message,
            encode=encode_message,  # type: ignore[arg-type]  # what decode_message gave
            examples=_messages(),
        ),
        "Commit": _of(Commit.read, commit.encode(), by_reference.encode()),
        "UpdatePath": _of(UpdatePath.read, commit.path.encode() if commit.path else b""),
        "GroupInfo": _of(GroupInfo.read, osei.group_info()[4:]),
        "Welcome": _of(Welcome.read, _messages()[5][4:]),
        "AuthenticatedContent": Codec(
            decode=AuthenticatedContent.decode,
            encode=lambda value: value.encode(),  # type: ignore[attr-defined]  # what decode gave
            examples=(
                sign_as(osei, evict(1)).encode(),
                sign_as(osei, commit, tag=bytes(32)).encode(),
            ),
        ),
        "Sender": Codec(
            decode=lambda data: decode(data, "Sender", Sender.read),
            encode=lambda sender: sender.encode(),  # type: ignore[attr-defined]  # a Sender
            examples=(b"\x01\0\0\0\1", b"\x02\0\0\0\1", b"\x03", b"\x04"),
        ),
        "Proposal": Codec(
            decode=lambda data: decode(data, "Proposal", read_proposal),
            encode=encode_proposal,  # type: ignore[arg-type]  # what read_proposal gave
            examples=tuple(encode_proposal(proposal) for proposal in _proposals()),
        ),
    }


def _codecs_of_the_store() -> dict[str, Codec]:
    """Return the decoders of what is saved or sealed."""
    osei, lindqvist, _ = trio()
    package = key_package("Weber")
    reader, _ = read(lindqvist, osei.encrypt(b"one")[1])
    private = tuple(data for key, data in saved(reader).items() if key.startswith("secret/"))
    return {
        "KeyPackageSecrets": Codec(
            decode=KeyPackageSecrets.decode,
            encode=lambda value: value.encode(),  # type: ignore[attr-defined]  # KeyPackageSecrets
            examples=(package.encode(),),
        ),
        "SecretNode": Codec(
            decode=lambda data: decode_secret_node(data, leaf=True),
            encode=encode_secret_node,  # type: ignore[arg-type]  # what decode_secret_node gave
            examples=private,
        ),
        "EpochDecryption": _of(EpochDecryption.read, EpochDecryption.of(osei).encode()),
        "GroupContext": _of(GroupContext.read, osei.context.encode()),
        "GroupSecrets": _of(
            GroupSecrets.read,
            GroupSecrets(joiner_secret=bytes(32), path_secret=bytes(32), psks=PSKS).encode(),
            GroupSecrets(joiner_secret=bytes(32), path_secret=None, psks=()).encode(),
        ),
        "SenderData": _of(SenderData.read, SenderData(LeafIndex(1), 2, b"grd!").encode()),
    }


@cache
def codecs() -> dict[str, Codec]:
    """Return every decoder of the package."""
    return {**_codecs_of_leaves(), **_codecs_of_messages(), **_codecs_of_the_store()}


NAMES = (
    "MLSMessage",
    "KeyPackage",
    "KeyPackageSecrets",
    "LeafNode",
    "Capabilities",
    "Credential",
    "Commit",
    "UpdatePath",
    "GroupContext",
    "GroupSecrets",
    "GroupInfo",
    "Welcome",
    "SenderData",
    "EpochDecryption",
    "AuthenticatedContent",
    "Sender",
    "Proposal",
    "ratchet_tree",
    "Node",
    "SecretNode",
)
every_codec = pytest.mark.parametrize("name", NAMES)


def _check(codec: Codec, data: bytes) -> None:
    try:
        value = codec.decode(data)
    except (DecodeError, InvalidError):
        return
    assert codec.encode(value) == data


def test_every_decoder_is_among_those_tested() -> None:
    assert set(NAMES) == set(codecs())


@every_codec
def test_a_valid_encoding_decodes_and_re_encodes_identically(name: str) -> None:
    codec = codecs()[name]
    assert codec.examples
    for data in codec.examples:
        assert codec.encode(codec.decode(data)) == data
        for cut in range(len(data)):
            with pytest.raises((DecodeError, InvalidError)):
                codec.decode(data[:cut])
        with pytest.raises((DecodeError, InvalidError)):
            codec.decode(data + b"\0")


@every_codec
@given(data=st.binary(max_size=300))
def test_any_bytes_decode_or_are_refused(name: str, data: bytes) -> None:
    _check(codecs()[name], data)


@every_codec
@given(draw=st.data())
def test_any_mutation_of_a_valid_encoding_decodes_or_is_refused(
    name: str, draw: st.DataObject
) -> None:
    codec = codecs()[name]
    _check(codec, draw.draw(mutated(codec.examples)))


@given(draw=st.data())
def test_any_mutation_of_a_message_is_processed_or_refused_and_the_state_is_as_it_was(
    draw: st.DataObject,
) -> None:
    _, lindqvist = pair()
    before = saved(lindqvist)
    data = draw.draw(mutated(codecs()["MLSMessage"].examples) | st.binary(max_size=200))
    with suppress(*DOCUMENTED):
        lindqvist.process(data, authenticate=anyone)
    assert saved(lindqvist) == before


@pytest.mark.parametrize("usage", [0, 4, 255])
def test_a_resumption_psk_of_no_known_usage_does_not_decode(usage: int) -> None:
    encoded = encode_proposal(PreSharedKey(PSKS[1]))
    assert encoded[2:4] == b"\x02\x01"
    with pytest.raises(DecodeError):
        decode(encoded[:3] + bytes([usage]) + encoded[4:], "Proposal", read_proposal)
