"""Signed notes: a text with lines of signatures below it, and the keys that make and check them.

The text of a note means nothing until a signature by a key that the verifier was *configured* with
has been verified; signatures by other keys are skipped, and a wrong one by a known key spoils the
note.

Source: C2SP signed-note; the private key's encoding is that of Go's golang.org/x/mod/sumdb/note.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from dataclasses import dataclass, field
from enum import IntEnum
from hashlib import sha256

from crypto import ed25519
from crypto.errors import DecodeError, UsageError, VerificationError

KEY_ID_BYTES = 4

MAX_NOTE_BYTES = 1_000_000
"""A longer note is refused unread; generic tools stop at the same length."""

MAX_SIGNATURES = 100
"""Signature lines at most, of which each costs a verification; the format demands at least 16."""

_SIGNATURE_PREFIX = "— "
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
_PRIVATE_PREFIX = "PRIVATE+KEY+"


class SignatureType(IntEnum):
    """Type identifiers that this package signs and verifies (signed-note, "Signature types")."""

    ED25519 = 0x01
    COSIGNATURE = 0x04


def encode_base64(data: bytes) -> str:
    """Return the standard Base64 of ``data`` (RFC 4648, section 4)."""
    return b64encode(data).decode("ascii")


def decode_base64(text: str, *, struct: str, offset: int) -> bytes:
    """Return the bytes of canonical standard Base64.

    Raises:
        DecodeError: Anything else, also padding bits that are not zero; it names ``struct`` and
            ``offset``.
    """
    try:
        data = b64decode(text, validate=True)
    except (Base64Error, ValueError):
        raise DecodeError(struct, offset) from None
    if encode_base64(data) != text:
        raise DecodeError(struct, offset)
    return data


def decode_decimal(text: str, *, struct: str, offset: int) -> int:
    """Return the number of 0 to 2^63 - 1 that ``text`` writes in ASCII without leading zeroes.

    Raises:
        DecodeError: Anything else; it names ``struct`` and ``offset``.
    """
    if not re.fullmatch(r"0|[1-9][0-9]{0,18}", text) or int(text) >= 1 << 63:
        raise DecodeError(struct, offset)
    return int(text)


def is_key_name(name: str) -> bool:
    """Tell whether ``name`` may name a key: not empty, without spaces, controls or ``+``."""
    printable = not any(char.isspace() or char == "+" or _CONTROL.match(char) for char in name)
    return bool(name) and printable and _is_utf8(name)


def _is_utf8(text: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in text)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierKey:
    """A public key with the name and the signature type that it verifies (a *vkey*).

    Attributes:
        name: Name in the signature lines; for a log's key it is the log's origin.
        kind: What its signatures sign.
        public_key: 32-byte Ed25519 key.
    """

    name: str
    kind: SignatureType
    public_key: bytes

    def __post_init__(self) -> None:
        if not is_key_name(self.name) or len(self.public_key) != ed25519.PUBLIC_KEY_BYTES:
            raise UsageError("a verifier key has a name without spaces and 32 bytes")

    @property
    def key_id(self) -> bytes:
        """The ``KEY_ID_BYTES`` that stand before its signatures (signed-note, "Signatures")."""
        identified = self.name.encode() + b"\n" + bytes([self.kind]) + self.public_key
        return sha256(identified).digest()[:KEY_ID_BYTES]

    def encode(self) -> str:
        """Return the vkey, ``name+id+key``.

        Source: signed-note, "Verifier keys".
        """
        material = encode_base64(bytes([self.kind]) + self.public_key)
        return f"{self.name}+{self.key_id.hex()}+{material}"

    @classmethod
    def decode(cls, text: str) -> VerifierKey:
        """Return the key of a vkey.

        Raises:
            DecodeError: It is none, is of a type not known here, or its id is not its key's.
            InvalidError: Its point is not one that a verifier may accept.
        """
        name, kind, public_key = _decode_key(text, "VerifierKey")
        ed25519.check_public_key(public_key)
        key = cls(name=name, kind=kind, public_key=public_key)
        if key.encode() != text:
            raise DecodeError("VerifierKey", 0)
        return key


@dataclass(frozen=True, slots=True, kw_only=True)
class SignerKey:
    """A private key with its name and signature type; no ``repr`` and no error shows the secret.

    Attributes:
        name: Name in the signature lines.
        kind: What its signatures sign. Two types never share a key: what is signed as the one
            could otherwise be read as the other.
        key: The Ed25519 key.
    """

    name: str
    kind: SignatureType
    key: ed25519.SigningKey = field(repr=False)

    def __post_init__(self) -> None:
        if not is_key_name(self.name):
            raise UsageError("a signer key has a name without spaces")

    @classmethod
    def generate(cls, name: str, kind: SignatureType) -> SignerKey:
        """Return a fresh key.

        Raises:
            UsageError: ``name`` is no key name.
        """
        return cls(name=name, kind=kind, key=ed25519.SigningKey.generate())

    @property
    def verifier(self) -> VerifierKey:
        """The public half."""
        return VerifierKey(name=self.name, kind=self.kind, public_key=self.key.public_key)

    def encode(self) -> str:
        """Return ``PRIVATE+KEY+name+id+key``, for a file that only its owner can read."""
        material = encode_base64(bytes([self.kind]) + self.key.seed)
        return f"{_PRIVATE_PREFIX}{self.name}+{self.verifier.key_id.hex()}+{material}"

    @classmethod
    def decode(cls, text: str) -> SignerKey:
        """Return the key that ``encode`` wrote.

        Raises:
            DecodeError: It is none, is of a type not known here, or its id is not its key's.
        """
        name, kind, seed = _decode_key(text.removeprefix(_PRIVATE_PREFIX), "SignerKey")
        key = cls(name=name, kind=kind, key=ed25519.SigningKey.from_seed(seed))
        if key.encode() != text:
            raise DecodeError("SignerKey", 0)
        return key


def _decode_key(text: str, struct: str) -> tuple[str, SignatureType, bytes]:
    # A Base64 part may hold a plus, a name never does.
    name, _, rest = text.partition("+")
    _, _, encoded = rest.partition("+")
    material = decode_base64(encoded, struct=struct, offset=0)
    known = material[:1] in {bytes([kind]) for kind in SignatureType}
    if not is_key_name(name) or not known or len(material) != 1 + ed25519.PUBLIC_KEY_BYTES:
        raise DecodeError(struct, 0)
    return name, SignatureType(material[0]), material[1:]


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteSignature:
    """One signature line, of any key and type.

    Attributes:
        name: The key's name.
        key_id: ``KEY_ID_BYTES`` bytes.
        signature: What stands behind the key id; for Ed25519 64 bytes.
    """

    name: str
    key_id: bytes
    signature: bytes

    def encode(self) -> str:
        """Return the line with its newline."""
        return f"{_SIGNATURE_PREFIX}{self.name} {encode_base64(self.key_id + self.signature)}\n"

    @classmethod
    def decode(cls, line: str) -> NoteSignature:
        """Return the signature of a line that still has its newline.

        Raises:
            DecodeError: It is no signature line.
        """
        name, _, encoded = line.removeprefix(_SIGNATURE_PREFIX).rstrip("\n").partition(" ")
        data = decode_base64(encoded, struct="NoteSignature", offset=0)
        if not is_key_name(name) or len(data) <= KEY_ID_BYTES:
            raise DecodeError("NoteSignature", 0)
        value = cls(name=name, key_id=data[:KEY_ID_BYTES], signature=data[KEY_ID_BYTES:])
        if value.encode() != line:
            raise DecodeError("NoteSignature", 0)
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A text and its signatures, none of which is verified yet.

    Attributes:
        text: The signed bytes: UTF-8 that ends in a newline.
        signatures: At least one.
    """

    text: bytes
    signatures: tuple[NoteSignature, ...]

    def encode(self) -> bytes:
        """Return the note: the text, an empty line, the signature lines."""
        return self.text + b"\n" + "".join(s.encode() for s in self.signatures).encode()

    def with_signatures(self, *more: NoteSignature) -> Note:
        """Return the note with ``more`` signature lines below those that it has."""
        return Note(text=self.text, signatures=self.signatures + more)

    @classmethod
    def decode(cls, data: bytes) -> Note:
        """Return the note in ``data``.

        Raises:
            DecodeError: The bytes are no note, are longer than ``MAX_NOTE_BYTES``, or have more
                than ``MAX_SIGNATURES`` signatures.

        Source: signed-note, "Format".
        """
        text, separator, below = _utf8(data).rpartition("\n\n")
        *lines, end = below.split("\n")
        if end or not separator or not 1 <= len(lines) <= MAX_SIGNATURES:
            raise DecodeError("Note", 0)
        signatures = tuple(NoteSignature.decode(f"{line}\n") for line in lines)
        return cls(text=text.encode() + b"\n", signatures=signatures)


def _utf8(data: bytes) -> str:
    try:
        text = data[: MAX_NOTE_BYTES + 1].decode("utf-8")
    except UnicodeDecodeError as error:
        raise DecodeError("Note", error.start) from None
    if len(data) > MAX_NOTE_BYTES or _CONTROL.search(text):
        raise DecodeError("Note", 0)
    return text


def split_note(data: bytes, *, struct: str) -> tuple[list[str], Note]:
    """Return the ASCII lines before the first empty line, and the note after it.

    Raises:
        DecodeError: The lines are not ASCII (it names ``struct``), or no note follows.
    """
    head, _, note = data.partition(b"\n\n")
    try:
        lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError as error:
        raise DecodeError(struct, error.start) from None
    return lines, Note.decode(note)


def is_note_text(text: bytes) -> bool:
    """Tell whether a note may hold ``text``: UTF-8 that ends in a newline, no other controls."""
    try:
        return _utf8(text).endswith("\n")
    except DecodeError:
        return False


def sign_note(text: bytes, key: SignerKey) -> Note:
    """Return ``text`` as a note signed by ``key``.

    Args:
        text: UTF-8 that ends in a newline, without other control characters.
        key: Of type ``ED25519``.

    Raises:
        UsageError: The text cannot be a note's, or the key is of another type.

    Source: signed-note, "Ed25519 signatures".
    """
    if key.kind is not SignatureType.ED25519 or not is_note_text(text):
        raise UsageError("a note is UTF-8 with a final newline, its key of type Ed25519")
    line = NoteSignature(name=key.name, key_id=key.verifier.key_id, signature=key.key.sign(text))
    return Note(text=text, signatures=(line,))


def signatures_of(note: Note, key: VerifierKey) -> tuple[bytes, ...]:
    """Return the signatures in ``note`` that name ``key``, not yet verified."""
    named = (key.name, key.key_id)
    return tuple(s.signature for s in note.signatures if (s.name, s.key_id) == named)


def verify_note(note: Note, key: VerifierKey) -> None:
    """Check that ``key`` signed the note's text.

    Raises:
        UsageError: The key is not of type ``ED25519``.
        VerificationError: It did not, or a signature in its name is wrong.

    Source: signed-note, "Signatures".
    """
    if key.kind is not SignatureType.ED25519:
        raise UsageError("a note's text is verified by a key of type Ed25519")
    signatures = signatures_of(note, key)
    if not signatures:
        raise VerificationError
    for signature in signatures:
        ed25519.verify(public_key=key.public_key, message=note.text, signature=signature)
