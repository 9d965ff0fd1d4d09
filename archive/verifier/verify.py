"""Verify an export of a Wardline archive, with Python 3.11 and PyNaCl alone.

python verify.py [FOLDER] [--organisation HEX] [--log KEY] [--witness KEY]

It asks neither the relay nor the archive. What it shows: no file is another than the archive wrote;
every message was in the archive's log under a checkpoint that log and witness signed; each message
was sent by the device that the transcript names, certified by the organisation's root; and who
asked for, approved and released the opening. Whom to believe are three values, which the export
names itself unless they are given: compare them with those that you know from somewhere else.

What it does not show: that a device was rightly certified in the first place, and that nothing else
was said: an export is of the scope that officers approved.
"""

from __future__ import annotations

import argparse
import base64
import json
import struct
import sys
from collections import namedtuple
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from nacl.bindings import crypto_aead_chacha20poly1305_ietf_decrypt, crypto_sign_open
from nacl.exceptions import CryptoError

MANIFEST = "manifest.txt"
PROOF = "manifest.proof"
ITSELF = "verify.py"
MANIFEST_HEAD = "Wardline export manifest 1"

_RECORD = struct.Struct(">BBBQQ32s32sQQ32s32sI16s16s")
_REQUEST, _APPROVAL, _RELEASE, _EXPORT = 11, 12, 13, 15
_MESSAGE, _ROSTER = 1, 4
_OFFICER_ROLE, _OFFICER_PURPOSE = 4, 3
_ED25519, _COSIGNATURE = 1, 4
_COMMIT = b"Wardline 1 record commitment"
_LOG = b"Wardline 1 log id"
_STATEMENT = b"Wardline 1.0 Statement"
_OF_MESSAGE = b"MLS 1.0 FramedContentTBS"
# 2.25.79689349282104350691878375769266695294.1
DEVICE_OID = bytes.fromhex("69f7f3ce90ec8e9a838985a794acb2a0fed87e01")
_ED25519_OID = bytes.fromhex("300506032b6570")
_RELEASE_HEAD = b"\x01\x00\x10"
_DASH = "— "


class RefusedError(Exception):
    """Something is not what it should be; the text says what and where."""


def check(holds: object, what: str) -> None:
    """Refuse the export where something does not hold."""
    if not holds:
        raise RefusedError(what)


# -- bytes ---------------------------------------------------------------------------------------
class Reader:
    """A cursor over bytes in the presentation language of TLS, as RFC 9420 has it."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, size: int) -> bytes:
        """Read exactly ``size`` bytes."""
        check(0 <= size <= len(self.data) - self.at, "bytes are cut short")
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, size: int) -> int:
        """Read an unsigned integer."""
        return int.from_bytes(self.take(size), "big")

    def opaque(self) -> bytes:
        """Read an ``opaque<V>``."""
        first = self.number(1)
        check(first < 0xC0, "a length is malformed")
        more = (0, 1, 3)[first >> 6]
        return self.take((first & 0x3F) << 8 * more | self.number(more) if more else first)

    def end(self) -> None:
        """Refuse bytes that trail."""
        check(self.at == len(self.data), "bytes trail")


def opaque(value: bytes) -> bytes:
    """Write an ``opaque<V>``."""
    form = (len(value) >= 0x40) + (len(value) >= 0x4000)
    octets = 1 << form
    return (len(value) | form << 8 * octets - 2).to_bytes(octets, "big") + value


def verify_signature(key: bytes, message: bytes, signature: bytes, *, what: str) -> None:
    """Refuse a message that ``key`` did not sign (Ed25519, libsodium's checks)."""
    check(len(key) == 32 and len(signature) == 64, what)
    try:
        crypto_sign_open(signature + message, key)
    except CryptoError:
        raise RefusedError(what) from None


# -- the log: Merkle tree, checkpoints, records -----------------------------------------------
Tree = namedtuple("Tree", "size root")
"""A checkpoint that log and witness signed."""


def verify_inclusion(leaf: bytes, index: int, proof: list[bytes], tree: Tree) -> None:
    """Refuse a leaf that is not at ``index`` of a tree (RFC 9162, section 2.1.3.2)."""
    what = f"record {index} is not in the log"
    check(index < tree.size, what)
    place, last, found = index, tree.size - 1, leaf
    for hash_ in proof:
        check(last > 0, what)
        if place & 1 or place == last:
            found = sha256(b"\x01" + hash_ + found).digest()
            while place and not place & 1:
                place, last = place >> 1, last >> 1
        else:
            found = sha256(b"\x01" + found + hash_).digest()
        place, last = place >> 1, last >> 1
    check(last == 0 and found == tree.root, what)


@dataclass(frozen=True)
class Key:
    """A verifier key of a log or a witness (C2SP signed-note)."""

    name: str
    kind: int
    public: bytes

    @classmethod
    def decode(cls, text: str) -> Key:
        """Return the key that ``text`` writes."""
        name, _, rest = text.partition("+")
        shown, _, encoded = rest.partition("+")
        material = decode_base64(encoded, what="a verifier key")
        check(name and len(material) == 33, "a verifier key is malformed")
        key = cls(name, material[0], material[1:])
        check(key.id.hex() == shown, "a verifier key's id is not its own")
        return key

    @property
    def id(self) -> bytes:
        """The four bytes before its signatures."""
        return sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.public).digest()[:4]


def decode_base64(text: str, *, what: str) -> bytes:
    """Return the bytes of canonical Base64."""
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        raise RefusedError(f"{what} is no Base64") from None
    check(base64.b64encode(data).decode() == text, f"{what} is no canonical Base64")
    return data


def decode_hex(text: object, size: int | None = None) -> bytes:
    """Return the bytes of lower-case hexadecimal."""
    check(isinstance(text, str), "a value is no text")
    try:
        data = bytes.fromhex(str(text))
    except ValueError:
        raise RefusedError("a value is no hexadecimal") from None
    check(data.hex() == text and size in (None, len(data)), "a value has another form")
    return data


def verify_checkpoint(note: str, log: Key, witness: Key) -> Tree:
    """Return the tree of a note that log and witness signed, and nobody else (tlog-checkpoint)."""
    text, separator, below = note.rpartition("\n\n")
    lines = below.split("\n")
    check(separator and lines.pop() == "", "a checkpoint is no note")
    text += "\n"
    seen = {_verify_line(line, text, log, witness) for line in lines}
    check(seen == {log, witness} and len(lines) == 2, "a checkpoint lacks a signature")
    origin, size, root, *rest = text.split("\n")
    check(rest == [""] and origin == log.name, "a checkpoint is another log's")
    check(size.isascii() and size.isdigit() and str(int(size)) == size, "a size is malformed")
    hash_ = decode_base64(root, what="a root")
    check(len(hash_) == 32, "a root is malformed")
    return Tree(int(size), hash_)


def _verify_line(line: str, text: str, log: Key, witness: Key) -> Key:
    name, _, encoded = line.removeprefix(_DASH).partition(" ")
    check(line.startswith(_DASH), "a checkpoint's signature is malformed")
    data = decode_base64(encoded, what="a checkpoint's signature")
    what = "a checkpoint's signature is wrong"
    if (name, data[:4]) == (log.name, log.id) and log.kind == _ED25519:
        verify_signature(log.public, text.encode(), data[4:], what=what)
        return log
    check((name, data[:4]) == (witness.name, witness.id) and witness.kind == _COSIGNATURE, what)
    time = int.from_bytes(data[4:12], "big")
    signed = b"cosignature/v1\ntime %d\n" % time + text.encode()
    verify_signature(witness.public, signed, data[12:], what=what)
    return witness


Record = namedtuple(
    "Record",
    "version type flags place at_ms log_id conv_tag epoch conv_seq conv_prev commit body_length "
    "bucket record_key_id",
)
"""A leaf of the log."""


class Entry(NamedTuple):
    """A record with its body."""

    record: Record
    body: bytes


def verify_entry(fields: dict[str, Any], tree: Tree, log_id: bytes) -> Entry:
    """Return a record that is in the log, with the body that it commits to."""
    data = decode_hex(fields["record"], _RECORD.size)
    record = Record._make(_RECORD.unpack(data))
    body = decode_base64(str(fields["body"]), what=f"body {record.place}")
    salt = decode_hex(fields["salt"], 32)
    proof = [decode_base64(str(one), what="a proof") for one in fields["proof"]]
    commit = sha256(_COMMIT + salt + sha256(body).digest()).digest()
    check(record.log_id == log_id, f"record {record.place} is another log's")
    check(
        commit == record.commit and len(body) == record.body_length,
        f"record {record.place} does not commit to its body",
    )
    verify_inclusion(sha256(b"\x00" + data).digest(), record.place, proof, tree)
    return Entry(record, body)


# -- certificates --------------------------------------------------------------------------------
Node = namedtuple("Node", "tag content whole")
"""A DER element."""


def der(data: bytes) -> Iterator[Node]:
    """Yield the elements of a DER content one after the other."""
    at = 0
    while at < len(data):
        start = at
        check(len(data) >= at + 2, "a certificate is cut short")
        tag, size = data[at], data[at + 1]
        at += 2
        if size >= 0x80:
            octets = size - 0x80
            size = int.from_bytes(data[at : at + octets], "big")
            at += octets
        check(len(data) >= at + size, "a certificate is cut short")
        at += size
        yield Node(tag, data[at - size : at], data[start:at])


@dataclass(frozen=True)
class Certificate:
    """What is needed of a certificate."""

    key: bytes
    names: tuple[str, ...]
    extensions: dict[bytes, bytes]

    @property
    def device(self) -> str:
        """``user/device``."""
        return "/".join(self.names[1:])

    @property
    def roles(self) -> bytes:
        """The roles' numbers."""
        return Reader(self.extensions.get(DEVICE_OID, b"\x00")).opaque()


def read_certificate(data: bytes, signer: bytes | None = None) -> Certificate:
    """Return what a certificate says, once the root's key has signed it (its own for the root)."""
    try:
        (outer,) = der(data)
        tbs, algorithm, signature = der(outer.content)
        parts = [one for one in der(tbs.content) if one.tag != 0xA0]
        _, _, _, _, subject, key_info, *_ = parts
        key = list(der(key_info.content))[1].content[1:]
        names = tuple(_name(one) for one in der(subject.content))
        extensions = dict(_extensions(tbs.content))
    except (ValueError, IndexError):
        raise RefusedError("a certificate is malformed") from None
    check(algorithm.whole == _ED25519_OID, "a certificate's algorithm is another")
    what = "a certificate is not signed by the root"
    verify_signature(signer or key, tbs.whole, signature.content[1:], what=what)
    return Certificate(key, names, extensions)


def _name(relative: Node) -> str:
    (pair,) = der(relative.content)
    _, value = der(pair.content)
    return str(value.content.decode())


def _extensions(tbs: bytes) -> Iterator[tuple[bytes, bytes]]:
    for part in der(tbs):
        if part.tag != 0xA3:
            continue
        (listed,) = der(part.content)
        for extension in der(listed.content):
            elements = list(der(extension.content))
            yield elements[0].content, elements[-1].content


# -- messages ------------------------------------------------------------------------------------
def open_message(
    message: bytes, evidence: dict[str, Any], context: bytes, sender: Certificate
) -> bytes:
    """Return what a message says, once its sender's signature is verified.

    Source: RFC 9420, sections 6.1 and 6.3; cipher suite 3.
    """
    reader = Reader(message)
    check(reader.take(4) == b"\x00\x01\x00\x02", "a message is no PrivateMessage")
    group_id, epoch, kind = reader.opaque(), reader.take(8), reader.take(1)
    data, _, ciphertext = reader.opaque(), reader.opaque(), reader.opaque()
    reader.end()
    check(kind == b"\x01", "a message carries no content")
    of_group = Reader(context)
    head = (of_group.take(4), of_group.opaque(), of_group.take(8))
    check(head == (b"\x00\x01\x00\x03", group_id, epoch), "a message is of another epoch")
    key, nonce = decode_hex(evidence["key"], 32), decode_hex(evidence["nonce"], 12)
    aad = opaque(group_id) + epoch + kind + opaque(data)
    try:
        plain = crypto_aead_chacha20poly1305_ietf_decrypt(ciphertext, aad, nonce, key)
    except CryptoError:
        raise RefusedError("a message does not open") from None
    inner = Reader(plain)
    content, signature = inner.opaque(), inner.opaque()
    check(not any(plain[inner.at :]), "a message's padding is not zero")
    leaf = int(evidence["leaf"]).to_bytes(4, "big")
    framed = opaque(group_id) + epoch + b"\x01" + leaf + opaque(data) + kind + opaque(content)
    signed = opaque(_OF_MESSAGE) + opaque(b"\x00\x01\x00\x02" + framed + context)
    verify_signature(sender.key, signed, signature, what="a message's signature is wrong")
    return content


# -- statements ----------------------------------------------------------------------------------
Statement = namedtuple("Statement", "type body id hash signers")
"""A signed statement; its signers are pairs of what each signed as and a fingerprint."""


def read_statement(
    data: bytes, organisation: bytes, key_of: Callable[[int, bytes], bytes]
) -> Statement:
    """Return a statement of which every signature is right; ``key_of`` knows each signer's key."""
    reader = Reader(data)
    check(reader.number(1) == 1, "a statement is of another version")
    kind, named = reader.number(2), reader.take(32)
    check(named == organisation, "a statement is another organisation's")
    reader.take(16 + 8 + 8)
    body = reader.opaque()
    content = data[: reader.at]
    listed = Reader(reader.opaque())
    reader.end()
    signers = []
    while listed.at < len(listed.data):
        before = opaque(listed.data[: listed.at])
        purpose, fingerprint, signature = (listed.take(n) for n in (1, 32, 64))
        signed = opaque(_STATEMENT) + opaque(content + before + purpose + fingerprint)
        key = key_of(purpose[0], fingerprint)
        verify_signature(key, signed, signature, what="a statement's signature is wrong")
        signers.append((purpose[0], fingerprint))
    check(signers, "a statement is not signed")
    return Statement(kind, body, sha256(content).digest(), sha256(data).digest(), signers)


# -- the export ----------------------------------------------------------------------------------
@dataclass
class Found:
    """What has been verified so far, and what is told of it."""

    folder: Path
    organisation: bytes
    log: Key
    witness: Key
    told: list[str] = field(default_factory=list)

    def text(self, name: str) -> str:
        """Return a file's text."""
        try:
            return (self.folder / name).read_bytes().decode("utf-8")
        except (OSError, UnicodeDecodeError):
            raise RefusedError(f"{name} cannot be read") from None

    def lines(self, name: str) -> list[dict[str, Any]]:
        """Return the objects of a file of JSON lines."""
        return [read_json(line, name) for line in self.text(name).splitlines()]

    @property
    def log_id(self) -> bytes:
        """How each record names its log."""
        material = base64.b64encode(bytes([self.log.kind]) + self.log.public).decode()
        vkey = f"{self.log.name}+{self.log.id.hex()}+{material}"
        return sha256(_LOG + vkey.encode()).digest()


def read_json(text: str, name: str) -> dict[str, Any]:
    """Return the object that a text writes."""
    try:
        value = json.loads(text)
    except ValueError:
        raise RefusedError(f"{name} is no JSON") from None
    check(isinstance(value, dict), f"{name} holds something else")
    return dict(value)


def write_json(value: object) -> str:
    """Return a value as exports write it, in one way only."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def verify_manifest(found: Found) -> Tree:
    """Return the checkpoint of the records, once all files are those of the recorded manifest."""
    proof = found.text(PROOF)
    fields = read_json(proof, PROOF)
    check(write_json(fields) + "\n" == proof, f"{PROOF} is written in another way")
    tree = verify_checkpoint(str(fields["checkpoint"]), found.log, found.witness)
    entry = verify_entry(fields, tree, found.log_id)
    check(entry.record.type == _EXPORT, "the manifest's record is of another kind")
    reader = Reader(entry.body)
    reader.take(32 + 8)
    manifest = found.text(MANIFEST)
    written = sha256(manifest.encode()).digest() == reader.take(32)
    check(written, f"{MANIFEST} is not the one that was recorded")
    _verify_files(found, manifest)
    # Log and witness signed this one too, and a witness cosigns only what continues the last.
    return verify_checkpoint(found.text("checkpoint.txt"), found.log, found.witness)


def verify_file(data: bytes, hash_: str, size: str, name: str) -> None:
    """Refuse a file that is not the one that the manifest names."""
    same = sha256(data).hexdigest() == hash_ and str(len(data)) == size
    check(same, f"{name} was changed")


def _verify_files(found: Found, manifest: str) -> None:
    head, *lines = manifest.splitlines()
    check(head == MANIFEST_HEAD, f"{MANIFEST} is no manifest")
    named = set()
    for line in lines:
        hash_, size, name = line.split(" ", 2)
        check(".." not in Path(name).parts and not Path(name).is_absolute(), "a path leads out")
        check((found.folder / name).is_file(), f"{name} is missing")
        verify_file((found.folder / name).read_bytes(), hash_, size, name)
        named.add(name)
    there = {
        path.relative_to(found.folder).as_posix()
        for path in found.folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    extra = there - named - {MANIFEST, PROOF, ITSELF}
    check(not extra, f"{min(extra, default='')} does not belong here")
    found.told.append(f"{len(named)} files are those that the archive recorded")


def verify_certificates(found: Found) -> dict[bytes, Certificate]:
    """Return the export's certificates by fingerprint, each signed by the organisation's root."""
    root_der = (found.folder / "certificates/root.der").read_bytes()
    check(sha256(root_der).digest() == found.organisation, "the root is another organisation's")
    root = read_certificate(root_der)
    certificates = {}
    for path in sorted((found.folder / "certificates").glob("*.der")):
        data = path.read_bytes()
        if path.name != "root.der":
            certificates[sha256(data).digest()] = read_certificate(data, root.key)
    found.told.append(f"{len(certificates)} certificates are the organisation's")
    return certificates


def verify_records(found: Found, tree: Tree) -> dict[int, Entry]:
    """Return the export's records by index, each in the log."""
    entries = {}
    for fields in found.lines("records.jsonl"):
        entry = verify_entry(fields, tree, found.log_id)
        entries[entry.record.place] = entry
    found.told.append(f"{len(entries)} records are in the log, whose tree has {tree.size}")
    return entries


def rosters_of(entries: dict[int, Entry]) -> dict[tuple[bytes, int], dict[int, bytes]]:
    """Return the members of each epoch, by leaf, as the archive recorded them."""
    rosters = {}
    for entry in entries.values():
        if entry.record.type != _ROSTER:
            continue
        reader = Reader(entry.body)
        check(reader.number(1) == 1, "a roster is of another version")
        group_id, epoch = reader.opaque(), reader.number(8)
        reader.opaque()
        members = Reader(reader.opaque())
        roster = {}
        while members.at < len(members.data):
            leaf = members.number(4)
            roster[leaf] = members.take(32)
        rosters[group_id, epoch] = roster
    return rosters


def verify_messages(
    found: Found, entries: dict[int, Entry], certificates: dict[bytes, Certificate]
) -> None:
    """Refuse a transcript that is not what the recorded messages say."""
    rosters = rosters_of(entries)
    evidence = {int(one["index"]): one for one in found.lines("evidence.jsonl")}
    contexts = [decode_hex(one["context"]) for one in found.lines("epochs.jsonl")]
    lines = found.lines("transcript.jsonl")
    shown = {int(line["index"]) for line in lines}
    recorded = {place for place, entry in entries.items() if entry.record.type == _MESSAGE}
    check(shown == recorded and len(shown) == len(lines), "the transcript has other messages")
    faults = 0
    for line in lines:
        index = int(line["index"])
        if line["fault"] and index not in evidence:
            faults += 1
            continue
        check(index in evidence, f"message {index} has no evidence")
        proof = evidence[index]
        context = contexts[int(proof["epoch"])]
        sender = _sender(entries[index], proof, rosters, certificates)
        _compare(line, sender, open_message(entries[index].body, proof, context, sender))
    check(found.text("transcript.txt") == render(lines), "transcript.txt tells something else")
    found.told.append(f"{len(lines) - faults} messages are what their senders signed")
    if faults:
        found.told.append(f"{faults} messages did not open and are shown as that")


def _sender(
    entry: Entry,
    proof: dict[str, Any],
    rosters: dict[tuple[bytes, int], dict[int, bytes]],
    certificates: dict[bytes, Certificate],
) -> Certificate:
    group_id = Reader(entry.body[4:]).opaque()
    roster = rosters.get((group_id, entry.record.epoch), {})
    fingerprint = decode_hex(proof["certificate"], 32)
    known = roster.get(int(proof["leaf"])) == fingerprint and fingerprint in certificates
    check(known, f"message {entry.record.place} is of no member")
    return certificates[fingerprint]


def _compare(line: dict[str, Any], sender: Certificate, content: bytes) -> None:
    index = line["index"]
    check(line["sender"] == sender.device, f"message {index} is another's")
    check(line["content"] == content.hex(), f"message {index} says something else")
    inside = all(part.encode() in content for part in str(line["text"]).split("\n"))
    check(inside, f"message {index} is told in other words")


def render(lines: list[dict[str, Any]]) -> str:
    """Return the transcript for people."""
    told, group = [], None
    for line in lines:
        if line["group"] != group:
            group = line["group"]
            told += ["", f"Conversation {group}", ""]
        text = str(line["text"]).replace("\n", "\n    ")
        fault = f" [{line['fault']}]" if line["fault"] else ""
        told.append(f"{line['sent']}  {line['sender']}  {line['kind']}{fault}")
        told += [f"    {text}"] if text else []
    return "\n".join(told).strip() + "\n"


def verify_opening(
    found: Found, entries: dict[int, Entry], certificates: dict[bytes, Certificate]
) -> None:
    """Refuse an export whose opening its own records do not show."""
    said, hand_outs = [], []
    for entry in entries.values():
        own = entry.record.type == _RELEASE and not entry.body.startswith(_RELEASE_HEAD)
        if own:
            hand_outs.append(entry.body)
        elif entry.record.type in (_REQUEST, _APPROVAL, _RELEASE):
            said.append(_said(entry.body, found.organisation, certificates))
    requests = [(who, one) for who, one in said if one.type == 14]
    check(len(requests) == 1 and len(hand_outs) == 1, "an export is of one opening")
    ((asker, request),), (hand_out,) = requests, hand_outs
    of_it = [(who, one) for who, one in said if one.body[1:33] == request.hash]
    approved = {who for who, one in of_it if one.type == 15 and one.body[33] == 1}
    released = {who: one.hash for who, one in of_it if one.type == 16}
    check(released and set(released) <= approved, "who released has not approved")
    _verify_hand_out(found, hand_out, request, set(released.values()))
    found.told.append(f"asked for by {asker}")
    found.told.append(f"approved by {', '.join(sorted(approved))}")
    found.told.append(f"released by {', '.join(sorted(released))}")


def _said(
    data: bytes, organisation: bytes, certificates: dict[bytes, Certificate]
) -> tuple[str, Statement]:
    """Return an officer, and the statement that this officer alone signed."""

    def key_of(purpose: int, fingerprint: bytes) -> bytes:
        check(fingerprint in certificates, "a statement's signer is not in the export")
        signer = certificates[fingerprint]
        an_officers = purpose == _OFFICER_PURPOSE and _OFFICER_ROLE in signer.roles
        check(an_officers, "a statement is not an officer's")
        return signer.key

    statement = read_statement(data, organisation, key_of)
    (_, fingerprint), *more = statement.signers
    check(not more, "a statement is more than one officer's")
    return certificates[fingerprint].names[1], statement


def _verify_hand_out(
    found: Found, hand_out: bytes, request: Statement, released: set[bytes]
) -> None:
    reader = Reader(hand_out)
    check(reader.number(1) == 1 and reader.take(32) == request.hash, "the keys were another's")
    reader.take(32)
    hashes = reader.opaque()
    named = {hashes[at : at + 32] for at in range(0, len(hashes), 32)}
    check(named == released, "the keys were handed out for other releases")
    own = (found.folder / ITSELF).read_bytes() if (found.folder / ITSELF).is_file() else b""
    if sha256(own).digest() == reader.take(32):
        found.told.append(f"{ITSELF} is the one that the archive recorded")
    else:
        found.told.append(f"NOTE: {ITSELF} is not the one that the archive recorded")


def verify(folder: Path, *, organisation: str = "", log: str = "", witness: str = "") -> list[str]:
    """Return what was verified of an export, for people.

    Raises:
        RefusedError: Something is not what it should be.
    """
    blank = Found(folder, b"", Key("", 0, b""), Key("", 0, b""))
    trust = dict(line.split(" ", 1) for line in blank.text("trust.txt").splitlines() if " " in line)
    found = Found(
        folder,
        decode_hex(organisation or trust.get("organisation", ""), 32),
        Key.decode(log or trust.get("log", "")),
        Key.decode(witness or trust.get("witness", "")),
    )
    tree = verify_manifest(found)
    certificates = verify_certificates(found)
    entries = verify_records(found, tree)
    verify_messages(found, entries, certificates)
    verify_opening(found, entries, certificates)
    for name, given in (("organisation", organisation), ("log", log), ("witness", witness)):
        note = "as given" if given else "as the export says: compare it"
        found.told.append(f"{name} {given or trust.get(name)} ({note})")
    return found.told


def run(arguments: list[str], verified: Callable[..., list[str]], what: str) -> int:
    """Verify what lies in a folder and say what was found; return the exit status."""
    parser = argparse.ArgumentParser(description=f"Verify {what}.")
    parser.add_argument("folder", nargs="?", default=Path(__file__).parent, type=Path)
    for name in ("organisation", "log", "witness"):
        parser.add_argument(f"--{name}", default="")
    given, status = vars(parser.parse_args(arguments)), 1
    try:
        told, status = [*verified(**given), "VERIFIED"], 0
    except RefusedError as refusal:
        told = [f"REFUSED: {refusal}"]
    except Exception as error:
        # Whatever stands in a file: what could not be read to its end is not verified.
        told = [f"REFUSED: malformed ({type(error).__name__})"]
    sys.stdout.write("".join(f"{line}\n" for line in told))
    return status


def main(arguments: list[str]) -> int:
    """Verify an export; return the exit status."""
    return run(arguments, verify, "an export of a Wardline archive")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
