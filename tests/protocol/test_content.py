"""Typed content: one encoding each, unknown kinds kept, nothing that a screen would obey."""

from __future__ import annotations

import dataclasses
import sys
import unicodedata
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto import ed25519
from crypto.attachment import AttachmentRef
from crypto.errors import DecodeError, InvalidError
from crypto.mls.protection import padded_length
from protocol import limits
from protocol.content import (
    CONTENT_BYTES,
    Attachment,
    CheckIn,
    CriticalResult,
    HandOff,
    HistoryHandOver,
    Known,
    Location,
    Official,
    OpenShift,
    Original,
    Reaction,
    Reference,
    Task,
    Text,
    Unknown,
    decode,
    encode,
    kind_of,
)
from protocol.content.affairs import ORIGINALS, STATEMENTS
from protocol.content.kinds import Kind
from protocol.content.wire import (
    FIELD_BYTES,
    ITEMS,
    LINE_BYTES,
    PEOPLE,
    TEXT_BYTES,
    check_line,
    check_prose,
)
from protocol.identifiers import DeviceId, RoleName, UserName
from protocol.oncall.wire import LATEST_MS
from tests.protocol.content_examples import ATTACHMENT_REF, EXAMPLES, NOW_MS, REFERENCE
from tests.protocol.strategies import mutated

LENGTHS_BYTES = 4 + 2
"""Before the content and before its signature, inside the padding."""
OVERHEAD_BYTES = 1024
"""What an application message adds outside its padding: header, authenticated data, tags."""


def known() -> st.SearchStrategy[bytes]:
    """Encodings of every kind."""
    texts = st.text(min_size=1, max_size=40).filter(_sayable).map(lambda text: Text(text=text))
    return st.one_of(st.sampled_from(EXAMPLES), texts).map(encode)


def _sayable(text: str) -> bool:
    try:
        Text(text=text)
    except InvalidError:
        return False
    return True


@given(st.one_of(st.binary(max_size=200), mutated(known())))
def test_any_bytes_give_content_that_encodes_to_them_or_a_documented_error(data: bytes) -> None:
    try:
        content = decode(data)
    except (DecodeError, InvalidError):
        return
    assert encode(content) == data


@pytest.mark.parametrize("content", EXAMPLES, ids=lambda content: type(content).__name__)
def test_every_kind_comes_back_as_it_was(content: Known) -> None:
    assert decode(encode(content)) == content
    assert encode(content)[0] == kind_of(content)


@given(st.integers(0, 255).filter(lambda octet: octet not in set(Kind)), st.binary(max_size=50))
def test_a_kind_that_is_not_known_is_kept_whatever_it_holds(octet: int, body: bytes) -> None:
    content = decode(bytes([octet]) + body)
    assert content == Unknown(kind=octet, body=body)
    assert encode(content) == bytes([octet]) + body


@pytest.mark.parametrize(
    "sign",
    ["\x1b", "\x00", "\x07", "\r", "\x7f", "\x9b", "\u2028", "\u2029", "\u202e", "\u2066"],
)
def test_text_that_a_screen_would_obey_is_refused_by_writer_and_reader(sign: str) -> None:
    text = f"10{sign}mg"
    with pytest.raises(InvalidError):
        Text(text=text)
    body = text.encode()
    with pytest.raises(InvalidError):
        decode(bytes([Kind.TEXT, len(body)]) + body)


SOME = 60
"""Signs that are one line, of four octets each."""


def test_what_a_line_refuses_are_the_signs_of_four_categories_and_those_that_turn() -> None:
    turning = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
    signs = [chr(number) for number in range(sys.maxunicode + 1)]
    categories = ("Cc", "Cs", "Zl", "Zp")
    refused = {one for one in signs if unicodedata.category(one) in categories or one in turning}
    for sign in refused:
        assert not _takes(check_line, sign)
        assert _takes(check_prose, sign) is (sign in "\n\t")
    # What is taken as a whole is taken sign by sign.
    taken = "".join(sign for sign in signs if sign not in refused)
    for at in range(0, len(taken), SOME):
        assert _takes(check_line, taken[at : at + SOME])
        assert _takes(check_prose, taken[at : at + SOME])


def _takes(check: Callable[[str], None], sign: str) -> bool:
    try:
        check(sign)
    except InvalidError:
        return False
    return True


def test_a_lone_surrogate_is_no_text() -> None:
    with pytest.raises(InvalidError):
        Text(text="\ud800")
    with pytest.raises(DecodeError):
        decode(bytes([Kind.TEXT, 3]) + b"\xed\xa0\x80")


def test_a_text_has_many_lines_and_a_title_has_one() -> None:
    assert Text(text="one\n\ttwo").text == "one\n\ttwo"
    with pytest.raises(InvalidError):
        Task(title="one\ntwo")


@pytest.mark.parametrize(
    ("make", "fields"),
    [
        (Text, {"text": ""}),
        (Text, {"text": "x" * (TEXT_BYTES + 1)}),
        (Text, {"text": "é" * (TEXT_BYTES // 2 + 1)}),
        (Reference, {"sender": "ann", "message_id": 1}),
        (Reference, {"sender": "ann/phone", "message_id": 0}),
        (Reaction, {"target": REFERENCE, "mark": "x" * 33}),
        (Task, {"title": "x" * (LINE_BYTES + 1)}),
        (Task, {"title": "x", "due_ms": 1}),
        (Task, {"title": "x", "assignee": "Not A Name"}),
        (CriticalResult, {"test": "K", "value": ""}),
        (OpenShift, {"role": "icu", "start_ms": NOW_MS, "end_ms": NOW_MS}),
        (CheckIn, {"title": "x", "questions": ()}),
        (CheckIn, {"title": "x", "questions": ("?",) * (ITEMS + 1)}),
        (Official, {"statements": ()}),
        (Official, {"statements": (b"",) * (STATEMENTS + 1)}),
        (HistoryHandOver, {"originals": ()}),
        (Location, {"ward": ""}),
    ],
)
def test_a_field_that_breaks_its_rule_makes_no_content(make: Any, fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidError):
        make(**fields)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "../../etc/passwd"),
        ("name", "a\\b"),
        ("name", ".."),
        ("blob", "../other"),
        ("blob", "00ff/../other"),
        ("blob", "00ff\n"),
        ("blob", "00ff?offset=0"),
        ("blob", "0" * 65),
        ("blob", ""),
        ("ref", b""),
    ],
)
def test_an_attachment_leads_nowhere_but_to_its_upload(field: str, value: str | bytes) -> None:
    good = {"blob": "00ff", "ref": ATTACHMENT_REF, "name": "a.jpg", "media_type": "image/jpeg"}
    Attachment(**good)  # type: ignore[arg-type]
    with pytest.raises(InvalidError):
        Attachment(**(good | {field: value}))  # type: ignore[arg-type]


def test_an_attachment_says_the_size_that_its_reference_says() -> None:
    ref = AttachmentRef(
        key=bytes(32), size=70_000, plaintext_hash=bytes(32), ciphertext_hash=bytes(32)
    )
    content = Attachment(blob="0", ref=ref.encode(), name="a", media_type="b")
    assert content.size == AttachmentRef.decode(content.ref).size == 70_000


def _people(count: int) -> tuple[UserName, ...]:
    return tuple(UserName(f"{number:064}") for number in range(count))


LARGEST: tuple[Known, ...] = (
    Text(text="x" * TEXT_BYTES),
    Task(title="x" * LINE_BYTES, assignee=_people(1)[0], due_ms=LATEST_MS, note="x" * FIELD_BYTES),
    HandOff(
        subject="x" * LINE_BYTES,
        situation="x" * FIELD_BYTES,
        background="x" * FIELD_BYTES,
        assessment="x" * FIELD_BYTES,
        recommendation="x" * FIELD_BYTES,
        to=_people(PEOPLE),
    ),
    CheckIn(title="x" * LINE_BYTES, questions=("x" * (FIELD_BYTES // 8),) * ITEMS),
    Attachment(
        blob="x" * 64,
        ref=ATTACHMENT_REF,
        name="x" * LINE_BYTES,
        media_type="x" * LINE_BYTES,
        caption="x" * TEXT_BYTES,
    ),
    OpenShift(role=RoleName("x" * 64), start_ms=1 << 40, end_ms=LATEST_MS, note="x" * LINE_BYTES),
)


@pytest.mark.parametrize("content", LARGEST, ids=lambda content: type(content).__name__)
def test_whatever_keeps_its_fields_limits_can_be_sent(content: Known) -> None:
    assert len(encode(content)) <= CONTENT_BYTES


def test_only_bundles_can_be_too_large_and_then_say_so() -> None:
    with pytest.raises(InvalidError):
        encode(Official(statements=(bytes(CONTENT_BYTES),)))
    original = Original(
        message=Reference(sender=DeviceId("ann/phone"), message_id=1),
        at_ms=NOW_MS,
        message_hash=bytes(32),
        content=encode(Text(text="x" * TEXT_BYTES)),
    )
    with pytest.raises(InvalidError):
        encode(HistoryHandOver(originals=(original, original)))
    with pytest.raises(InvalidError):
        HistoryHandOver(originals=(original,) * (ORIGINALS + 1))
    with pytest.raises(InvalidError):
        decode(bytes([200]) + bytes(CONTENT_BYTES))


def test_the_largest_content_fits_a_message_that_the_relay_takes() -> None:
    signed = CONTENT_BYTES + LENGTHS_BYTES + ed25519.SIGNATURE_BYTES
    assert padded_length(signed) + OVERHEAD_BYTES <= limits.MESSAGE_BYTES
    assert padded_length(limits.MESSAGE_BYTES) + OVERHEAD_BYTES > limits.MESSAGE_BYTES


def test_no_repr_shows_what_was_said() -> None:
    for content in EXAMPLES:
        hidden = [
            str(getattr(content, field.name))
            for field in dataclasses.fields(content)
            if not field.repr
        ]
        assert all(value not in repr(content) for value in hidden if value not in ("", "()"))
    assert "ready" not in repr(EXAMPLES[0])
