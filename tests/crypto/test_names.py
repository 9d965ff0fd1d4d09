"""Names, roles and times: one spelling each."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto import names
from crypto.codec import decode
from crypto.errors import DecodeError, InvalidError
from crypto.names import AUTHORITY_ROLES, QUORUM_ROLES, TIME_MAX_MS, Role


@given(st.frozensets(st.sampled_from(Role), min_size=1))
def test_roles_are_read_as_they_are_written(roles: frozenset[Role]) -> None:
    assert decode(names.write_roles(roles), "roles", names.read_roles) == roles


@given(st.binary(max_size=8))
def test_any_bytes_are_roles_that_re_encode_or_a_decode_error(data: bytes) -> None:
    try:
        roles = decode(data, "roles", names.read_roles)
    except DecodeError:
        return
    assert names.write_roles(roles) == data


def test_text_is_ascii() -> None:
    assert decode(names.write_text("alice"), "text", names.read_text) == "alice"
    with pytest.raises(DecodeError):
        decode(b"\x02\xc3\xa9", "text", names.read_text)


@pytest.mark.parametrize("name", ["a/b", "a.b_c-9/x-1", "u" * 64 + "/" + "d" * 32])
def test_a_device_is_named_user_slash_device(name: str) -> None:
    names.check_full_name(name)


@pytest.mark.parametrize(
    "name", ["ab", "/b", "a/", "A/b", "a/B", "a/b.c", "a/b_c", "a/b\n", "é/b", "a" * 65 + "/b",
             "a/" + "b" * 33, "a/b/c"],
)  # fmt: skip
def test_other_spellings_are_refused(name: str) -> None:
    with pytest.raises(InvalidError):
        names.check_full_name(name)


@pytest.mark.parametrize("time_ms", [-1, TIME_MAX_MS + 1])
def test_a_time_is_one_that_a_certificate_can_say(time_ms: int) -> None:
    names.check_time(0)
    names.check_time(TIME_MAX_MS)
    with pytest.raises(InvalidError):
        names.check_time(time_ms)


def test_who_grants_a_role_is_decided_for_each() -> None:
    ordinary = {Role.CLINICIAN, Role.AFFILIATE}
    assert ordinary | QUORUM_ROLES | AUTHORITY_ROLES == set(Role)
    assert not QUORUM_ROLES & AUTHORITY_ROLES
