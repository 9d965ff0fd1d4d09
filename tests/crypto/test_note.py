"""Signed notes: the specification's example, strictness, and who is believed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto import note as notes
from crypto.errors import DecodeError, InvalidError, UsageError, VerificationError
from crypto.note import (
    MAX_NOTE_BYTES,
    MAX_SIGNATURES,
    Note,
    NoteSignature,
    SignatureType,
    SignerKey,
    VerifierKey,
    sign_note,
    verify_note,
)
from tests.depth import DEPTH

# From C2SP signed-note, "Verifier keys", "Example".
EXAMPLE_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
EXAMPLE = (
    "This is an example message.\n\n— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONn"
    "cAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
).encode()
TEXT = b"line\n\nafter an empty one\n"
KEY = SignerKey.generate("ward.example/log", SignatureType.ED25519)


def test_the_specifications_own_note_verifies_and_encodes_back() -> None:
    key = VerifierKey.decode(EXAMPLE_KEY)
    note = Note.decode(EXAMPLE)
    verify_note(note, key)
    assert note.text == b"This is an example message.\n"
    assert note.encode() == EXAMPLE
    assert key.encode() == EXAMPLE_KEY


def test_a_note_is_verified_by_its_own_key_only() -> None:
    note = Note.decode(sign_note(TEXT, KEY).encode())
    verify_note(note, KEY.verifier)
    other = SignerKey.generate("ward.example/log", SignatureType.ED25519)
    with pytest.raises(VerificationError):
        verify_note(note, other.verifier)
    with pytest.raises(VerificationError):
        verify_note(Note(text=b"other\n", signatures=note.signatures), KEY.verifier)


def test_every_flipped_bit_of_a_note_is_refused() -> None:
    data = sign_note(b"text\n", KEY).encode()
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises((DecodeError, VerificationError)):
            verify_note(Note.decode(bytes(changed)), KEY.verifier)


def test_every_truncation_of_a_note_is_refused() -> None:
    data = sign_note(b"text\n", KEY).encode()
    for cut in range(len(data)):
        with pytest.raises(DecodeError):
            Note.decode(data[:cut])


def test_signatures_of_unknown_keys_are_skipped_and_kept() -> None:
    stranger = SignerKey.generate("elsewhere.example", SignatureType.ED25519)
    garbage = NoteSignature(name=KEY.name, key_id=b"\0\0\0\0", signature=b"x" * 3000)
    signed = sign_note(TEXT, KEY)
    note = signed.with_signatures(*sign_note(TEXT, stranger).signatures, garbage)
    again = Note.decode(note.encode())
    assert again == note
    verify_note(again, KEY.verifier)


def test_one_wrong_signature_in_a_known_keys_name_spoils_the_note() -> None:
    signed = sign_note(TEXT, KEY)
    wrong = NoteSignature(name=KEY.name, key_id=KEY.verifier.key_id, signature=bytes(64))
    with pytest.raises(VerificationError):
        verify_note(signed.with_signatures(wrong), KEY.verifier)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"text\n",
        b"text\n\n",
        b"text\n\n\xe2\x80\x94 name AAAAAAA=",
        b"text\n\n\xe2\x80\x94 name AAAA\n",
        b"text\n\n\xe2\x80\x94 name AAAAAA==\n",
        b"text\n\n\xe2\x80\x94 name AAAAAAB=\n",
        b"text\n\n\xe2\x80\x94 name AAAAAAA\n",
        b"text\n\n\xe2\x80\x94 name  AAAAAAA=\n",
        b"text\n\n\xe2\x80\x94 na+me AAAAAAA=\n",
        b"text\n\n\xe2\x80\x94  AAAAAAA=\n",
        b"text\n\n\xe2\x80\x94 na\xe2\x80\xa8me AAAAAAA=\n",
        b"text\n\n- name AAAAAAA=\n",
        b"text\n\nname AAAAAAA=\n",
        b"te\x00xt\n\n\xe2\x80\x94 name AAAAAAA=\n",
        b"te\rxt\n\n\xe2\x80\x94 name AAAAAAA=\n",
        b"te\xffxt\n\n\xe2\x80\x94 name AAAAAAA=\n",
        b"text\n\xe2\x80\x94 name AAAAAAA=\n",
        "text\n\n— name AAAAAAÄ=\n".encode(),
    ],
)
def test_what_is_nearly_a_note_is_none(data: bytes) -> None:
    with pytest.raises(DecodeError):
        Note.decode(data)


def test_a_note_may_hold_nothing_but_a_newline() -> None:
    data = sign_note(b"\n", KEY).encode()
    note = Note.decode(data)
    assert (note.text, note.encode()) == (b"\n", data)


def test_the_limits_of_a_note_hold() -> None:
    line = NoteSignature(name="n", key_id=b"1234", signature=b"5")
    most = Note(text=b"t\n", signatures=(line,) * MAX_SIGNATURES)
    assert Note.decode(most.encode()) == most
    with pytest.raises(DecodeError):
        Note.decode(most.with_signatures(line).encode())
    tail = Note(text=b"", signatures=(line,)).encode()
    longest = b"a" * (MAX_NOTE_BYTES - len(tail) - 1) + b"\n" + tail
    assert Note.decode(longest).encode() == longest
    with pytest.raises(DecodeError):
        Note.decode(b"a" + longest)


@settings(max_examples=300 * DEPTH)
@given(
    st.binary(max_size=200)
    | st.text(alphabet="— ab\n+=A1", max_size=60).map(lambda text: text.encode())
)
def test_any_bytes_are_a_note_that_encodes_back_or_none(data: bytes) -> None:
    try:
        note = Note.decode(data)
    except DecodeError:
        return
    assert note.encode() == data


@settings(max_examples=300 * DEPTH)
@given(st.text(max_size=120))
def test_any_text_is_a_key_that_encodes_back_or_none(text: str) -> None:
    for kind in (VerifierKey, SignerKey):
        for candidate in (text, EXAMPLE_KEY[: len(text)] + text):
            try:
                key = kind.decode(candidate)
            except (DecodeError, InvalidError):
                continue
            assert key.encode() == candidate


@pytest.mark.parametrize("kind", SignatureType)
def test_keys_survive_their_encodings(kind: SignatureType) -> None:
    key = SignerKey.generate("ward.example/w1", kind)
    assert SignerKey.decode(key.encode()) == key
    assert VerifierKey.decode(key.verifier.encode()) == key.verifier


def test_a_key_whose_id_type_or_prefix_was_changed_is_refused() -> None:
    name, key_id, material = EXAMPLE_KEY.split("+")
    other_type = notes.encode_base64(b"\x09" + bytes(32))
    for text in (
        f"{name}+530d903b+{material}",
        f"{name}+530D903A+{material}",
        f"other+{key_id}+{material}",
        f"{name}+{key_id}+{other_type}",
        f"{name}+{key_id}+{material}+",
        f"\ud800+{key_id}+{material}",
    ):
        with pytest.raises(DecodeError):
            VerifierKey.decode(text)
    with pytest.raises(DecodeError):
        SignerKey.decode(KEY.encode().removeprefix("PRIVATE+KEY+"))


def test_a_small_order_point_is_no_verifier_key() -> None:
    material = notes.encode_base64(b"\x01" + b"\x01" + bytes(31))
    with pytest.raises(InvalidError):
        VerifierKey.decode(f"name+00000000+{material}")


def test_a_signers_secret_is_not_printed() -> None:
    assert KEY.key.seed.hex() not in repr(KEY)
    assert repr(KEY.key.seed) not in repr(KEY)
    assert notes.encode_base64(KEY.key.seed) not in repr(KEY)


def test_our_own_bugs_are_usage_errors() -> None:
    for text in (b"", b"no newline", b"tab\t\n", b"\xff\n", b"x" * MAX_NOTE_BYTES + b"\n"):
        with pytest.raises(UsageError):
            sign_note(text, KEY)
    witness = SignerKey.generate("w", SignatureType.COSIGNATURE)
    with pytest.raises(UsageError):
        sign_note(b"t\n", witness)
    with pytest.raises(UsageError):
        verify_note(sign_note(b"t\n", KEY), witness.verifier)
    for name in ("", "a b", "a+b", "a\nb", "\ud800"):
        with pytest.raises(UsageError):
            SignerKey.generate(name, SignatureType.ED25519)
    with pytest.raises(UsageError):
        VerifierKey(name="n", kind=SignatureType.ED25519, public_key=b"short")


def test_base64_is_written_in_one_way() -> None:
    assert notes.decode_base64("AAA=", struct="s", offset=0) == b"\0\0"
    for text in ("AAB=", "AAA", "AAA=\n", "AA A=", "AAA==", "_-A=", "\u00c4AA="):
        with pytest.raises(DecodeError):
            notes.decode_base64(text, struct="s", offset=0)


def test_numbers_are_written_in_one_way() -> None:
    assert notes.decode_decimal("0", struct="s", offset=0) == 0
    assert notes.decode_decimal(str((1 << 63) - 1), struct="s", offset=0) == (1 << 63) - 1
    for text in ("", "00", "01", "-1", "+1", "1 ", "1\n", "\u0661", str(1 << 63), "9" * 30):
        with pytest.raises(DecodeError) as caught:
            notes.decode_decimal(text, struct="s", offset=7)
        assert (caught.value.struct, caught.value.offset) == ("s", 7)
