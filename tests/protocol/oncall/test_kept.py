"""What is kept on disk: every older version is read, a newer one is refused by its number."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto.errors import DecodeError, InvalidError
from protocol.oncall import kept
from protocol.oncall.configuration import OwnQuiet
from protocol.oncall.delivery import Quiet
from tests.protocol.oncall.test_configuration import ANN, ICU
from tests.protocol.oncall.test_swaps import ready, signed

PLAN = signed(ready(), ANN).plans[ICU]
QUIET = OwnQuiet(version=3, quiet=Quiet(zone="Europe/Berlin"), link=bytes(32))


def test_what_is_kept_is_read_back() -> None:
    assert kept.read_plan(kept.write_plan(PLAN)) == PLAN
    assert kept.read_quiet(kept.write_quiet(QUIET)) == QUIET


def test_what_was_kept_before_there_were_versions_is_read_too() -> None:
    plan = ready().plans[ICU]
    before = plan.encode()
    # A role had no proposals then: their count is the last octet now.
    assert before.endswith(b"\x00")
    assert kept.read_plan(before[:-1]) == plan
    assert kept.read_plan(kept.marked(1, before[:-1])) == plan
    assert kept.read_quiet(QUIET.encode()) == QUIET


def test_what_a_newer_program_has_kept_is_refused_by_its_version() -> None:
    for known, read in ((kept.PLAN_VERSION, kept.read_plan), (kept.QUIET_VERSION, kept.read_quiet)):
        with pytest.raises(kept.VersionError) as refused:
            read(kept.marked(known + 1, PLAN.encode()))
        assert (refused.value.found, refused.value.known) == (known + 1, known)


@given(st.binary(max_size=80))
def test_any_bytes_give_what_was_kept_or_a_documented_error(data: bytes) -> None:
    for read in (kept.read_plan, kept.read_quiet):
        try:
            read(data)
        except (DecodeError, InvalidError):
            continue
