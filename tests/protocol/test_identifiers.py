"""Every identifier has one spelling."""

from __future__ import annotations

import pytest

from crypto.errors import InvalidError
from protocol import identifiers
from protocol.identifiers import ConversationId, DeviceId


@pytest.mark.parametrize("text", ["a", "a.b_c-9", "x" * 64])
def test_a_well_formed_name_is_a_user_and_a_role(text: str) -> None:
    assert identifiers.user_name(text) == text
    assert identifiers.role_name(text) == text


@pytest.mark.parametrize("text", ["", "A", "a b", "a/b", "é", "x" * 65, "a\n", "٣"])
def test_no_other_spelling_is_a_user_or_a_role(text: str) -> None:
    for check in (identifiers.user_name, identifiers.role_name):
        with pytest.raises(InvalidError):
            check(text)


@pytest.mark.parametrize("text", ["a", "a/", "/a", "a/b/c", "a/B", "a/b.c", "a/" + "x" * 33])
def test_a_device_id_is_a_user_and_a_device(text: str) -> None:
    with pytest.raises(InvalidError):
        identifiers.device_id(text)
    assert identifiers.user_of(identifiers.device_id("ann.lee/ward-pc")) == "ann.lee"


def test_a_log_is_named_by_its_kind_and_name() -> None:
    conversation = identifiers.conversation_log(ConversationId(bytes(32)))
    inbox = identifiers.inbox_log(DeviceId("ann/phone"))
    for log in (conversation, inbox, identifiers.CONTROL_LOG, identifiers.AUDIT_LOG):
        assert identifiers.log_id(log) == log


@pytest.mark.parametrize(
    "value", [b"", b"c", b"c" + bytes(31), b"iann", b"i\xff/a", b"o1", b"a1", b"x"]
)
def test_no_other_bytes_name_a_log(value: bytes) -> None:
    with pytest.raises(InvalidError):
        identifiers.log_id(value)


def test_ids_of_organisations_and_conversations_have_32_bytes() -> None:
    for check in (identifiers.organisation_id, identifiers.conversation_id):
        assert check(bytes(32)) == bytes(32)
        with pytest.raises(InvalidError):
            check(bytes(33))


def test_a_retention_class_is_one_lower_case_word() -> None:
    assert identifiers.retention_class("clinical-10y") == "clinical-10y"
    with pytest.raises(InvalidError):
        identifiers.retention_class("Clinical")
