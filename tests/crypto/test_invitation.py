"""Invitations: a link that fits a QR code and refuses a slip of the pen."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto import invitation
from crypto.errors import DecodeError, InvalidError
from crypto.invitation import (
    Invitation,
    InvitationLink,
    create_link,
    decode_invitation,
    decode_link,
)
from crypto.names import TIME_MAX_MS, Role

from .hospital import NOW_MS

PIN, ORGANISATION, SEED = bytes([1]) * 32, bytes([2]) * 32, bytes([3]) * 32
HOST = "relay.hospital.example"
LINK = InvitationLink(host=HOST, port=443, tls_pin=PIN, organisation=ORGANISATION, seed=SEED)
TEXT = LINK.encode()
INVITATION = Invitation(
    invitation_key=LINK.key.public_key,
    user="alice",
    roles=frozenset({Role.CLINICIAN, Role.AFFILIATE}),
    ends_ms=NOW_MS,
)
BODY = INVITATION.encode()

# ISO/IEC 18004, table 7: alphanumeric characters that version 8 holds at level M.
QR_VERSION_8_M = 221


def test_a_link_says_whom_to_contact_and_whom_to_believe() -> None:
    assert decode_link(TEXT) == LINK
    assert decode_link(TEXT).key.public_key == LINK.key.public_key


def test_a_link_is_short_and_in_the_qr_codes_dense_alphabet() -> None:
    assert len(TEXT) == 211
    assert len(TEXT) <= QR_VERSION_8_M
    assert re.fullmatch(r"WARDLINE:[A-Z2-7]+", TEXT)


def test_base64_would_make_the_larger_qr_code() -> None:
    payload_bytes = 1 + 32 * 3 + 2 + 1 + len(HOST) + invitation.CHECKSUM_BYTES
    base64_bits = 8 * (len("wardline:") + -(-payload_bytes * 4 // 3))
    assert 5.5 * len(TEXT) < base64_bits


@pytest.mark.parametrize(
    ("host", "size"), [("a", 177), ("x" * 253, 582), ("192.0.2.1", 190), ("2001:db8::1", 193)]
)
def test_the_length_of_a_link_follows_from_the_host(host: str, size: int) -> None:
    link = create_link(host=host, port=8443, tls_pin=PIN, organisation=ORGANISATION)
    assert len(link.encode()) == size
    assert decode_link(link.encode()) == link


def test_each_link_has_a_seed_of_its_own() -> None:
    links = [
        create_link(host=HOST, port=443, tls_pin=PIN, organisation=ORGANISATION) for _ in range(3)
    ]
    assert len({link.seed for link in links}) == 3


def test_every_flipped_bit_and_every_truncation_of_a_link_is_refused() -> None:
    for at in range(len(TEXT)):
        for bit in range(8):
            flipped = TEXT[:at] + chr(ord(TEXT[at]) ^ 1 << bit) + TEXT[at + 1 :]
            with pytest.raises(DecodeError):
                decode_link(flipped)
        with pytest.raises(DecodeError):
            decode_link(TEXT[:at])


@pytest.mark.parametrize(
    "link",
    [
        "",
        "WARDLINE:",
        TEXT.lower(),
        TEXT + "=",
        TEXT + "A",
        TEXT + "\n",
        " " + TEXT,
        "HTTPS:" + TEXT.removeprefix("WARDLINE:"),
        "WARDLINE:é",
    ],
)
def test_a_link_has_one_spelling(link: str) -> None:
    with pytest.raises(DecodeError):
        decode_link(link)


def test_a_link_of_another_version_is_refused() -> None:
    payload = invitation._payload(TEXT)
    with pytest.raises(DecodeError):
        decode_link(invitation._link(b"\x02" + payload[1:]))


def test_unused_bits_at_a_links_end_are_zero() -> None:
    """The last base32 character of 126 bytes carries two bits that say nothing."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
    twin = TEXT[:-1] + alphabet[alphabet.index(TEXT[-1]) ^ 1]
    assert invitation._payload(twin) == invitation._payload(TEXT)
    with pytest.raises(DecodeError):
        decode_link(twin)


@given(st.text(max_size=40) | st.binary(max_size=200).map(invitation._link))
def test_any_text_is_a_documented_error_or_re_encodes(link: str) -> None:
    try:
        value = decode_link(link)
    except (DecodeError, InvalidError):
        return
    assert value.encode() == link


@given(st.integers(0, 140), st.integers(0, 9), st.binary(max_size=9))
def test_any_changed_payload_is_a_documented_error_or_re_encodes(
    at: int, cut: int, put: bytes
) -> None:
    payload = invitation._payload(TEXT)
    link = invitation._link(payload[:at] + put + payload[at + cut :])
    try:
        value = decode_link(link)
    except (DecodeError, InvalidError):
        return
    assert value.encode() == link


@pytest.mark.parametrize(
    "host",
    ["", "x" * 254, "Relay.example", "relay example", "relay/evil", "-a", "a-", ".a", "a.", "é",
     "user@host", "a\n", "host:443x"],
)  # fmt: skip
def test_a_malformed_host_is_refused(host: str) -> None:
    with pytest.raises(InvalidError):
        create_link(host=host, port=443, tls_pin=PIN, organisation=ORGANISATION)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_malformed_port_is_refused(port: int) -> None:
    with pytest.raises(InvalidError):
        create_link(host=HOST, port=port, tls_pin=PIN, organisation=ORGANISATION)


@pytest.mark.parametrize(("pin", "organisation"), [(bytes(31), bytes(32)), (bytes(32), b"")])
def test_a_pin_and_a_fingerprint_have_32_bytes(pin: bytes, organisation: bytes) -> None:
    with pytest.raises(InvalidError):
        create_link(host=HOST, port=443, tls_pin=pin, organisation=organisation)


def test_a_links_repr_shows_neither_seed_nor_relay() -> None:
    shown = repr(LINK)
    assert HOST not in shown
    assert repr(SEED) not in shown


# The statement's body


def test_an_invitation_holds_the_public_key_and_never_the_seed() -> None:
    assert decode_invitation(BODY) == INVITATION
    assert LINK.key.public_key in BODY
    assert SEED not in BODY


def test_every_truncation_of_an_invitation_is_refused() -> None:
    for end in range(len(BODY)):
        with pytest.raises(DecodeError):
            decode_invitation(BODY[:end])
    with pytest.raises(DecodeError):
        decode_invitation(BODY + b"\x00")


@given(st.binary(max_size=100) | st.binary(max_size=40).map(lambda b: BODY[:32] + b))
def test_any_bytes_are_a_documented_error_or_an_invitation_that_re_encodes(data: bytes) -> None:
    try:
        value = decode_invitation(data)
    except (DecodeError, InvalidError):
        return
    assert value.encode() == data


@pytest.mark.parametrize(
    ("user", "ends_ms"),
    [("", None), ("Alice", None), ("a/b", None), ("a" * 65, None), ("alice", TIME_MAX_MS + 1)],
)
def test_a_malformed_invitation_is_refused(user: str, ends_ms: int | None) -> None:
    with pytest.raises(InvalidError):
        Invitation(
            invitation_key=LINK.key.public_key,
            user=user,
            roles=frozenset({Role.CLINICIAN}),
            ends_ms=ends_ms,
        )


def test_an_invitation_key_of_small_order_is_refused() -> None:
    with pytest.raises(InvalidError):
        decode_invitation(bytes([1]) + bytes(31) + BODY[32:])
