"""The texts by which a further device is let in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto.certificate import DeviceClaim
from crypto.ed25519 import SigningKey
from crypto.errors import DecodeError, InvalidError
from protocol.device_codes import (
    APPLICATION_PREFIX,
    GRANT_PREFIX,
    Grant,
    application_text,
    grant_text,
    read_application,
    read_grant_text,
)

CLAIM = DeviceClaim(
    user="ann",
    device="tablet",
    signature_key=SigningKey.generate().public_key,
    connection_key=SigningKey.generate().public_key,
)
GRANT = Grant(
    host="relay.example",
    port=8443,
    tls_pin=b"p" * 32,
    organisation=b"o" * 32,
    statement=b"statement",
)


def test_both_texts_come_back_also_from_lines_that_were_broken() -> None:
    assert read_application(application_text(CLAIM)) == CLAIM
    text = grant_text(GRANT)
    broken = "\n".join(text[at : at + 30] for at in range(0, len(text), 30))
    assert read_grant_text(f"  {broken}\n") == GRANT


def test_a_text_is_made_of_what_a_small_qr_code_holds() -> None:
    alphanumeric = set("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:")
    for text in (application_text(CLAIM), grant_text(GRANT)):
        assert set(text) <= alphanumeric


@given(st.data())
def test_a_mistyped_text_is_refused(data: st.DataObject) -> None:
    text = application_text(CLAIM)
    at = data.draw(st.integers(0, len(text) - 1))
    typed = data.draw(st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567018-:="))
    if typed != text[at]:
        with pytest.raises(DecodeError):
            read_application(text[:at] + typed + text[at + 1 :])
    with pytest.raises(DecodeError):
        read_application(text[:at])


@given(st.text())
def test_any_text_is_one_or_a_documented_error(text: str) -> None:
    for prefix, read in ((APPLICATION_PREFIX, read_application), (GRANT_PREFIX, read_grant_text)):
        for typed in (text, prefix + text):
            with pytest.raises((DecodeError, InvalidError)):
                read(typed)


def test_neither_text_passes_for_the_other() -> None:
    application, grant = application_text(CLAIM), grant_text(GRANT)
    with pytest.raises(DecodeError):
        read_grant_text(application)
    with pytest.raises(DecodeError):
        read_grant_text(application.replace(APPLICATION_PREFIX, GRANT_PREFIX))
    with pytest.raises(DecodeError):
        read_application(grant.replace(GRANT_PREFIX, APPLICATION_PREFIX))


@pytest.mark.parametrize(
    "changes", [{"port": 0}, {"port": 65536}, {"tls_pin": b""}, {"organisation": bytes(31)}]
)
def test_an_address_out_of_range_is_refused(changes: dict[str, object]) -> None:
    fields: dict[str, object] = {
        "host": "relay",
        "port": 1,
        "tls_pin": bytes(32),
        "organisation": bytes(32),
        "statement": b"",
    }
    with pytest.raises(InvalidError):
        Grant(**{**fields, **changes})  # type: ignore[arg-type]


def test_what_is_printed_of_a_grant_names_the_relay_alone() -> None:
    assert "statement" not in repr(GRANT)
    assert "relay.example" in repr(GRANT)
