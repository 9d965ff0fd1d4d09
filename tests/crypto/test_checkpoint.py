"""Checkpoints and cosignatures: the specifications' examples, identity, and every flipped bit."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto.checkpoint import (
    MAX_TIMESTAMP_S,
    Checkpoint,
    cosign,
    sign_checkpoint,
    verify_checkpoint,
    verify_cosignature,
)
from crypto.errors import DecodeError, UsageError, VerificationError
from crypto.merkle import MAX_TREE_SIZE
from crypto.note import Note, NoteSignature, SignatureType, SignerKey, sign_note
from tests.depth import DEPTH

# From C2SP tlog-cosignature.
EXAMPLE = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q"
    "1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2"
    "oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
).encode()

LOG = SignerKey.generate("ward.example/log", SignatureType.ED25519)
WITNESS = SignerKey.generate("relay.example/w1", SignatureType.COSIGNATURE)
CHECKPOINT = Checkpoint(origin=LOG.name, size=17, root=bytes(range(32)))
NOW_MS = 1_800_000_000_999


def cosigned() -> Note:
    note = sign_checkpoint(CHECKPOINT, LOG)
    return note.with_signatures(cosign(note, WITNESS, at_ms=NOW_MS))


def accept(data: bytes) -> None:
    """Ask for both signatures: what spoils the one leaves the other true."""
    note = Note.decode(data)
    verify_checkpoint(note, LOG.verifier)
    verify_cosignature(note, WITNESS.verifier)


def test_the_specifications_own_checkpoint_decodes_to_what_it_says() -> None:
    note = Note.decode(EXAMPLE)
    checkpoint = Checkpoint.decode(note.text)
    assert (checkpoint.origin, checkpoint.size) == ("example.com/behind-the-sofa", 20852163)
    assert checkpoint.encode() == note.text
    assert note.encode() == EXAMPLE
    time_s = int.from_bytes(note.signatures[1].signature[:8], "big")
    assert time_s == 1679315147


def test_a_checkpoint_is_its_logs_and_a_cosignature_its_witnesss() -> None:
    note = Note.decode(cosigned().encode())
    assert verify_checkpoint(note, LOG.verifier) == CHECKPOINT
    assert verify_cosignature(note, WITNESS.verifier) == NOW_MS // 1000


def test_every_flipped_bit_of_a_cosigned_checkpoint_is_refused() -> None:
    data = cosigned().encode()
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises((DecodeError, VerificationError)):
            accept(bytes(changed))


def test_another_logs_checkpoint_is_refused_even_from_our_logs_key() -> None:
    other = Checkpoint(origin="other.example/log", size=1, root=bytes(32))
    with pytest.raises(VerificationError):
        verify_checkpoint(sign_note(other.encode(), LOG), LOG.verifier)
    with pytest.raises(UsageError):
        sign_checkpoint(other, LOG)


def test_what_the_log_signed_must_be_a_checkpoint() -> None:
    with pytest.raises(DecodeError):
        verify_checkpoint(sign_note(b"no checkpoint\n", LOG), LOG.verifier)


def test_a_cosignature_does_not_pass_for_the_logs_signature() -> None:
    both = SignerKey(name=LOG.name, kind=SignatureType.COSIGNATURE, key=LOG.key)
    note = sign_checkpoint(CHECKPOINT, LOG)
    as_witness = cosign(note, both, at_ms=NOW_MS)
    only = Note(text=note.text, signatures=(as_witness,))
    with pytest.raises(VerificationError):
        verify_checkpoint(only, LOG.verifier)
    renamed = NoteSignature(
        name=LOG.name, key_id=LOG.verifier.key_id, signature=as_witness.signature[8:]
    )
    with pytest.raises(VerificationError):
        verify_checkpoint(Note(text=note.text, signatures=(renamed,)), LOG.verifier)


def test_of_two_cosignatures_the_newest_time_is_given_and_none_may_be_wrong() -> None:
    note = cosigned()
    later = note.with_signatures(cosign(note, WITNESS, at_ms=NOW_MS + 5000))
    assert verify_cosignature(later, WITNESS.verifier) == NOW_MS // 1000 + 5
    wrong = NoteSignature(
        name=WITNESS.name, key_id=WITNESS.verifier.key_id, signature=bytes(8 + 64)
    )
    with pytest.raises(VerificationError):
        verify_cosignature(later.with_signatures(wrong), WITNESS.verifier)


def test_a_time_beyond_the_formats_end_is_refused() -> None:
    note = sign_checkpoint(CHECKPOINT, LOG)
    time_s = MAX_TIMESTAMP_S + 1
    signed = WITNESS.key.sign(b"cosignature/v1\ntime %d\n" % time_s + note.text)
    line = NoteSignature(
        name=WITNESS.name,
        key_id=WITNESS.verifier.key_id,
        signature=time_s.to_bytes(8, "big") + signed,
    )
    with pytest.raises(VerificationError):
        verify_cosignature(note.with_signatures(line), WITNESS.verifier)


def test_a_checkpoint_without_a_cosignature_is_not_cosigned() -> None:
    with pytest.raises(VerificationError):
        verify_cosignature(sign_checkpoint(CHECKPOINT, LOG), WITNESS.verifier)


def test_cosigning_takes_a_checkpoint_a_time_and_a_key_of_its_own_type() -> None:
    note = sign_checkpoint(CHECKPOINT, LOG)
    with pytest.raises(UsageError):
        cosign(note, LOG, at_ms=NOW_MS)
    with pytest.raises(UsageError):
        cosign(note, WITNESS, at_ms=999)
    with pytest.raises(UsageError):
        cosign(note, WITNESS, at_ms=(MAX_TIMESTAMP_S + 1) * 1000)
    with pytest.raises(DecodeError):
        cosign(sign_note(b"text\n", LOG), WITNESS, at_ms=NOW_MS)
    with pytest.raises(UsageError):
        verify_cosignature(note, LOG.verifier)


def test_extension_lines_are_kept() -> None:
    checkpoint = Checkpoint(origin="o", size=0, root=bytes(32), extensions=("a", "b c"))
    assert Checkpoint.decode(checkpoint.encode()) == checkpoint


ROOT_LINE = b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"origin\n",
        b"origin\n1\n",
        b"\n1\n" + ROOT_LINE,
        b"origin\n01\n" + ROOT_LINE,
        b"origin\n-1\n" + ROOT_LINE,
        b"origin\n9223372036854775808\n" + ROOT_LINE,
        b"origin\n1\n" + ROOT_LINE[:-1],
        b"origin\n1\nAAAA\n",
        b"origin\n1\n" + ROOT_LINE.replace(b"A=", b"B="),
        b"origin\n1\n" + ROOT_LINE + b"\n",
        b"origin\n1\n" + ROOT_LINE + b"\nx\n",
        b"\xff\n1\n" + ROOT_LINE,
        b"\x00\n1\n" + ROOT_LINE,
    ],
)
def test_what_is_nearly_a_checkpoint_is_none(text: bytes) -> None:
    with pytest.raises(DecodeError):
        Checkpoint.decode(text)


@settings(max_examples=300 * DEPTH)
@given(
    st.binary(max_size=150)
    | st.tuples(st.text(max_size=8), st.text(max_size=6), st.text(max_size=8)).map(
        lambda parts: (
            "{}\n{}\n".format(*parts).encode("utf-8", "replace")
            + ROOT_LINE
            + parts[2].encode("utf-8", "replace")
        )
    )
)
def test_any_bytes_are_a_checkpoint_that_encodes_back_or_none(text: bytes) -> None:
    try:
        checkpoint = Checkpoint.decode(text)
    except DecodeError:
        return
    assert checkpoint.encode() == text


def test_a_checkpoint_that_is_none_is_not_encoded() -> None:
    good = {"origin": "o", "size": 1, "root": bytes(32)}
    for spoiled in (
        {"origin": ""},
        {"origin": "a\nb"},
        {"origin": "\x00"},
        {"origin": "\ud800"},
        {"size": -1},
        {"size": MAX_TREE_SIZE + 1},
        {"root": bytes(31)},
        {"extensions": ("",)},
        {"extensions": ("a\n",)},
    ):
        with pytest.raises(UsageError):
            Checkpoint(**{**good, **spoiled}).encode()  # type: ignore[arg-type]
