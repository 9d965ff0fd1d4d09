"""Invisible salamanders: one ciphertext under two keys, and one key over two ciphertexts.

What is shown: for secretstream itself the attack works (a chunk is built here that opens under two
keys to two readable texts), so it is the commitment in the header and the hashes in the message
that refuse it, and nothing else would.
"""

from __future__ import annotations

import secrets
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from nacl import bindings

from crypto import attachment
from crypto.attachment import AttachmentRef, AttachmentSealer, open_attachment
from crypto.attachment_layout import CHUNK_BYTES
from crypto.errors import VerificationError

P = (1 << 130) - 5
WORD = 1 << 32
CLAMP = 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
FINAL = bindings.crypto_secretstream_xchacha20poly1305_TAG_FINAL


def keystream(key: bytes, nonce: bytes, length: int) -> bytes:
    """Return ChaCha20's keystream; ``nonce`` has 16 bytes, of which the first four count blocks."""
    return Cipher(ChaCha20(key, nonce), mode=None).encryptor().update(bytes(length))


def subkey(key: bytes, header: bytes) -> bytes:
    """Return HChaCha20: ChaCha20's block without the final addition of its input."""
    block = keystream(key, header[:16], 64)
    start = b"expand 32-byte k" + header[:16]
    words = [*range(0, 16, 4), *range(48, 64, 4)]
    return b"".join(
        (
            (
                int.from_bytes(block[at : at + 4], "little")
                - int.from_bytes(start[i * 4 : i * 4 + 4], "little")
            )
            % WORD
        ).to_bytes(4, "little")
        for i, at in enumerate(words)
    )


class Party:
    """One of the two keys: its keystream for the first chunk, and its Poly1305 key."""

    def __init__(self, header: bytes) -> None:
        self.key = secrets.token_bytes(32)
        self.stream_key, self.commitment = attachment._derive(self.key)
        nonce = (1).to_bytes(4, "little") + header[16:]
        stream = keystream(subkey(self.stream_key, header), bytes(4) + nonce, 128 + CHUNK_BYTES)
        self.r = int.from_bytes(stream[:16], "little") & CLAMP
        self.s = int.from_bytes(stream[16:32], "little")
        self.tag_block, self.pad = stream[64:128], stream[128:]

    def constant(self, tag_byte: int, ciphertext: bytes) -> int:
        """Return Poly1305's sum over all but the two free blocks at the ciphertext's end."""
        lengths = bytes(8) + (64 + CHUNK_BYTES).to_bytes(8, "little")
        total = 0
        message = bytes([tag_byte]) + self.tag_block[1:] + ciphertext + lengths
        free = {len(message) - 32, len(message) - 48}
        for at in range(0, len(message), 16):
            block = 0
            if at not in free:
                block = int.from_bytes(message[at : at + 16], "little") + (1 << 128)
            total = (total + block) * self.r % P
        return total


def free_blocks(parties: tuple[Party, Party], constants: list[int], mac: int) -> tuple[int, int]:
    """Solve for the two last blocks under which both parties' Poly1305 is ``mac``."""
    (a, b), (c, d) = [(pow(p.r, 3, P), pow(p.r, 2, P)) for p in parties]
    wanted = [
        ((mac - party.s) % (1 << 128) - constant) % P
        for party, constant in zip(parties, constants, strict=True)
    ]
    inverse = pow(a * d - b * c, -1, P)
    x = (wanted[0] * d - b * wanted[1]) * inverse % P
    y = (a * wanted[1] - wanted[0] * c) * inverse % P
    return x, y


def collide(header: bytes, texts: tuple[bytes, bytes]) -> tuple[Party, Party, bytes]:
    """Return two parties and one chunk that opens for each, to its own text first."""
    one = Party(header)
    other = Party(header)
    while other.tag_block[0] != one.tag_block[0]:
        other = Party(header)
    half = CHUNK_BYTES // 2
    plain = [text.ljust(half) for text in texts]
    body = bytes(a ^ b for a, b in zip(plain[0], one.pad[:half], strict=True))
    body += bytes(a ^ b for a, b in zip(plain[1], other.pad[half:], strict=True))
    tag_byte = FINAL ^ one.tag_block[0]
    constants = [party.constant(tag_byte, body) for party in (one, other)]
    while True:
        mac = secrets.randbits(128)
        x, y = free_blocks((one, other), constants, mac)
        if x >> 128 == 1 and y >> 128 == 1:
            break
    end = b"".join((block - (1 << 128)).to_bytes(16, "little") for block in (x, y))
    return one, other, bytes([tag_byte]) + body[:-32] + end + mac.to_bytes(16, "little")


def pull(key: bytes, header: bytes, chunk: bytes) -> bytes:
    state = bindings.crypto_secretstream_xchacha20poly1305_state()
    bindings.crypto_secretstream_xchacha20poly1305_init_pull(state, header, key)
    plaintext, tag = bindings.crypto_secretstream_xchacha20poly1305_pull(state, chunk)
    assert tag == FINAL
    return plaintext


def test_a_stream_that_secretstream_opens_under_two_keys_is_opened_under_one() -> None:
    header = secrets.token_bytes(24)
    one, other, chunk = collide(header, (b"5 mg, as ordered", b"500 mg, as ordered"))
    texts = [pull(party.stream_key, header, chunk) for party in (one, other)]
    assert texts[0].startswith(b"5 mg, as ordered")
    assert texts[1][CHUNK_BYTES // 2 :].startswith(b"500 mg, as ordered")
    assert texts[0] != texts[1]
    for mine, stranger in ((0, 1), (1, 0)):
        party = (one, other)[mine]
        stream = party.commitment + header + chunk
        refs = [
            AttachmentRef(
                key=p.key,
                size=CHUNK_BYTES,
                plaintext_hash=sha256(text).digest(),
                ciphertext_hash=sha256(stream).digest(),
            )
            for p, text in zip((one, other), texts, strict=True)
        ]
        # Both references are true to the letter; the header commits to one key alone.
        assert b"".join(open_attachment(refs[mine], [stream])) == texts[mine]
        with pytest.raises(VerificationError):
            next(open_attachment(refs[stranger], [stream]))


def test_one_key_over_two_files_opens_only_the_one_in_the_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = secrets.token_bytes(32)
    monkeypatch.setattr("crypto.attachment.secrets.token_bytes", lambda _: key)
    sealer = AttachmentSealer()
    streams, refs = [], []
    for text in (b"left knee", b"right leg"):
        streams.append(b"".join(sealer.seal([text])))
        refs.append(sealer.ref)
    for mine, other in ((0, 1), (1, 0)):
        assert refs[mine].key == refs[other].key
        list(open_attachment(refs[mine], [streams[mine]]))
        with pytest.raises(VerificationError):
            next(open_attachment(refs[mine], [streams[other]]))


@pytest.mark.parametrize("spoiled", ["plaintext_hash", "ciphertext_hash"])
def test_each_of_the_two_hashes_is_checked_by_itself(spoiled: str) -> None:
    sealer = AttachmentSealer()
    stream = b"".join(sealer.seal([b"left knee"]))
    fields = {name: getattr(sealer.ref, name) for name in AttachmentRef.__dataclass_fields__}
    with pytest.raises(VerificationError):
        next(open_attachment(AttachmentRef(**{**fields, spoiled: bytes(32)}), [stream]))


def test_padding_that_is_not_zero_is_refused() -> None:
    # A sender who hides bytes behind the size would send what no one is shown.
    sealer = AttachmentSealer()
    stream = b"".join(sealer.seal([b"left knee, hidden"]))
    short = AttachmentRef(
        key=sealer.ref.key,
        size=9,
        plaintext_hash=sha256(b"left knee").digest(),
        ciphertext_hash=sealer.ref.ciphertext_hash,
    )
    with pytest.raises(VerificationError):
        next(open_attachment(short, [stream]))


def test_a_final_tag_before_the_end_or_none_at_the_end_is_refused() -> None:
    tag = bindings.crypto_secretstream_xchacha20poly1305_TAG_MESSAGE
    key = secrets.token_bytes(32)
    stream_key, commitment = attachment._derive(key)
    for size, tags in ((0, [tag]), (CHUNK_BYTES + 1, [FINAL, tag, tag, FINAL])):
        state = bindings.crypto_secretstream_xchacha20poly1305_state()
        stream = commitment + bindings.crypto_secretstream_xchacha20poly1305_init_push(
            state, stream_key
        )
        for each in tags:
            stream += bindings.crypto_secretstream_xchacha20poly1305_push(
                state, bytes(CHUNK_BYTES), None, each
            )
        ref = AttachmentRef(
            key=key,
            size=size,
            plaintext_hash=sha256(bytes(size)).digest(),
            ciphertext_hash=sha256(stream).digest(),
        )
        with pytest.raises(VerificationError):
            list(open_attachment(ref, [stream]))
