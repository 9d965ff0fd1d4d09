"""A program's report on itself: one text, signed by its own key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto.errors import DecodeError, InvalidError, VerificationError
from crypto.note import SignatureType, SignerKey
from protocol.report import Check, Report, decode_report, verify_report

WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1)
CHECKS = st.builds(
    Check, name=WORDS.filter(lambda name: ":" not in name), holds=st.booleans(), found=WORDS
)
REPORTS = st.builds(
    Report,
    program=WORDS,
    at_ms=st.integers(0, 1 << 50),
    checks=st.lists(CHECKS, min_size=1, max_size=4).map(tuple),
)
KEY = SignerKey.generate("wardline-relay", SignatureType.ED25519)


@given(REPORTS)
def test_a_report_decodes_to_itself(report: Report) -> None:
    assert decode_report(report.encode()) == report
    assert verify_report(report.sign(KEY), KEY.verifier) == report
    assert all(not check.holds for check in report.failed)


@given(st.binary(max_size=80) | REPORTS.map(lambda report: report.encode()[:-1]))
def test_any_bytes_give_a_report_of_one_encoding_or_a_documented_error(data: bytes) -> None:
    try:
        report = decode_report(data)
    except DecodeError:
        return
    assert report.encode() == data


def test_another_key_or_another_text_is_not_believed() -> None:
    check = Check(name="disk", holds=True, found="free")
    note = Report(program="x", at_ms=1, checks=(check,)).sign(KEY)
    other = SignerKey.generate("wardline-relay", SignatureType.ED25519)
    with pytest.raises(VerificationError):
        verify_report(note, other.verifier)
    spoilt = type(note)(text=note.text.replace(b"ok", b"OK"), signatures=note.signatures)
    with pytest.raises(VerificationError):
        verify_report(spoilt, KEY.verifier)


@pytest.mark.parametrize(
    ("name", "found"),
    [("", "x"), ("a: b", "x"), ("a", ""), ("a", "x\ny"), ("a\n", "x"), ("a", "\t")],
)
def test_a_check_is_one_line_with_a_name(name: str, found: str) -> None:
    with pytest.raises(InvalidError):
        Check(name=name, holds=True, found=found)
