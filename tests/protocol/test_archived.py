"""What a sender is told of its messages: one encoding, and nothing believed without its proof."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archive.log import Log
from archive.record import RECORD_BYTES as RECORD
from crypto.errors import CryptoError, DecodeError, InvalidError, VerificationError
from crypto.note import SignatureType, SignerKey
from protocol.archived import (
    MESSAGES,
    Archived,
    ArchivedMessage,
    ProofRequest,
    Unproved,
    archived_message,
)
from protocol.identifiers import ConversationId
from protocol.limits import STATEMENT_BYTES
from protocol.recorded import RECORD_BYTES
from protocol.requests import decode_request
from tests.archive.logs import NOW_MS, Site, messages
from tests.flipped import flipped

CONVERSATION = ConversationId(b"c" * 32)


def told(log: Log, count: int) -> Archived:
    entries = messages(0, count)
    with log.recording(entries, now_ms=NOW_MS) as recorded:
        indices, salts = recorded.indices, dict(recorded.salts)
    note = log.publish()
    return Archived(
        note=note,
        messages=tuple(
            archived_message(
                proof,
                conversation=CONVERSATION,
                sequence=number,
                record=log.read(proof.index).encode(),
                salt=salts[proof.index],
            )
            for number, proof in enumerate(log.receipts(indices, note), 1)
        ),
    )


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def check(archived: Archived, site: Site) -> None:
    """Check a statement about the second message alone, as its sender does."""
    archived.verify(log=site.signer.verifier, witnesses=[site.witness.key.verifier])
    archived.messages[0].verify(message_hash=body_hash(1))


def body_hash(number: int) -> bytes:
    return hashlib.sha256(messages(number, 1)[0].body).digest()


def test_a_sender_verifies_checkpoint_proofs_and_its_own_messages(site: Site) -> None:
    archived = told(site.create(), 5)
    checkpoint = archived.verify(log=site.signer.verifier, witnesses=[site.witness.key.verifier])
    assert checkpoint.size == 5
    for number, message in enumerate(archived.messages):
        assert message.index == number
        assert message.place == (CONVERSATION, number + 1)
        message.verify(message_hash=body_hash(number))
        with pytest.raises(VerificationError):
            message.verify(message_hash=body_hash(number + 1))


def test_a_full_statement_decodes_to_itself_and_fits(site: Site) -> None:
    archived = told(site.create(), MESSAGES)
    data = archived.encode()
    assert Archived.decode(data) == archived
    assert len(data) < STATEMENT_BYTES - 1024
    assert RECORD == RECORD_BYTES


def test_another_logs_or_nobodys_witness_is_not_believed(site: Site, tmp_path: Path) -> None:
    archived = told(site.create(), 3)
    other = SignerKey.generate("other.example", SignatureType.COSIGNATURE).verifier
    log = SignerKey.generate(site.signer.name, SignatureType.ED25519).verifier
    right = site.witness.key.verifier
    for key, witnesses in ((log, [right]), (site.signer.verifier, [other]), (log, [])):
        with pytest.raises(VerificationError):
            archived.verify(log=key, witnesses=witnesses)
    archived.verify(log=site.signer.verifier, witnesses=[other, right])


@pytest.mark.parametrize("part", ["record", "salt", "proof"])
def test_a_changed_record_proof_or_salt_shows(site: Site, part: str) -> None:
    archived = told(site.create(), 4)
    message = archived.messages[1]
    changes: dict[str, ArchivedMessage] = {
        "record": replace(message, record=flipped(message.record)),
        "salt": replace(message, salt=bytes(32)),
        "proof": replace(message, proof=message.proof[:-1]),
    }
    changed = replace(archived, messages=(changes[part],))
    with pytest.raises(VerificationError):
        check(changed, site)


def test_no_message_or_too_many_are_no_statement(site: Site) -> None:
    archived = told(site.create(), 1)
    for count in (0, MESSAGES + 1):
        with pytest.raises(InvalidError):
            Archived(note=archived.note, messages=archived.messages * count)


@given(data=st.binary(max_size=400))
def test_any_bytes_are_a_statement_that_re_encodes_or_a_documented_error(data: bytes) -> None:
    try:
        decoded = Archived.decode(data)
    except (DecodeError, InvalidError):
        return
    assert decoded.encode() == data


@given(at=st.integers(0, 2000), mask=st.integers(1, 255))
def test_a_changed_byte_is_found(
    at: int, mask: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    global _KEPT  # noqa: PLW0603 - one log for all examples
    if _KEPT is None:
        made = Site(tmp_path_factory.mktemp("log"))
        _KEPT = made, told(made.create(), 2).encode()
    site, data = _KEPT
    at %= len(data)
    changed = data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]
    try:
        archived = Archived.decode(changed)
        archived.verify(log=site.signer.verifier, witnesses=[site.witness.key.verifier])
        for number, message in enumerate(archived.messages):
            message.verify(message_hash=body_hash(number))
    except CryptoError:
        return
    # Where it was said is bound by nothing but the statement's own signature.
    assert [m.record for m in archived.messages] == [
        m.record for m in Archived.decode(data).messages
    ]


_KEPT: tuple[Site, bytes] | None = None


def test_a_request_for_proofs_decodes_to_itself_fits_and_is_of_some_messages() -> None:
    one = Unproved(conversation=CONVERSATION, sequence=7, message_hash=body_hash(1))
    full = ProofRequest(messages=(one,) * MESSAGES)
    assert ProofRequest.decode(full.encode()) == full
    assert len(full.encode()) < STATEMENT_BYTES - 1024
    for count in (0, MESSAGES + 1):
        with pytest.raises(InvalidError):
            ProofRequest(messages=(one,) * count)
    with pytest.raises(DecodeError):
        decode_request(full.encode())


@given(data=st.binary(max_size=400))
def test_any_bytes_are_a_request_that_re_encodes_or_a_documented_error(data: bytes) -> None:
    for octets in (data, b"\x03" + data):
        try:
            decoded = ProofRequest.decode(octets)
        except (DecodeError, InvalidError):
            continue
        assert decoded.encode() == octets
