"""Hypothesis strategies for the protocol's values, shared by its tests."""

from __future__ import annotations

from typing import Annotated, Any, get_args, get_origin

import msgspec
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from msgspec import Meta

from protocol.authenticated_data import (
    EVERYBODY,
    AuthenticatedData,
    Checkpoint,
    CommitData,
    Priority,
    Target,
    TargetKind,
)
from protocol.frames import FRAMES, Frame
from protocol.group_context import ConversationType, WardlineContext
from protocol.identifiers import DeviceId, OrganisationId, UserName

NAMES = st.text("abc019._-", min_size=1, max_size=12)
TOKENS = st.text("abc019-", min_size=1, max_size=12)
DEVICES = st.builds(lambda u, d: DeviceId(f"{u}/{d}"), NAMES, TOKENS)
COUNTERS = st.integers(1, (1 << 64) - 1)
HASHES = st.binary(min_size=32, max_size=32)


def example_context() -> WardlineContext:
    return WardlineContext(
        organisation=OrganisationId(bytes(32)),
        conversation_type=ConversationType.GROUP,
        owners=(UserName("ann"), UserName("bob")),
        recorder=DeviceId("archive/recorder"),
        retention_class="clinical",
    )


def contexts() -> SearchStrategy[WardlineContext]:
    return st.builds(
        WardlineContext,
        organisation=HASHES.map(OrganisationId),
        conversation_type=st.sampled_from(ConversationType),
        owners=st.sets(NAMES.map(UserName), min_size=1, max_size=4).map(lambda s: tuple(sorted(s))),
        recorder=DEVICES,
        retention_class=TOKENS,
    )


def _devices() -> SearchStrategy[tuple[DeviceId, ...]]:
    return st.sets(DEVICES, max_size=4).map(lambda s: tuple(sorted(s)))


def _targets() -> SearchStrategy[Target]:
    named = st.builds(Target, kind=st.sampled_from(list(TargetKind)[1:]), name=NAMES)
    return st.one_of(st.just(EVERYBODY), named)


def authenticated_data() -> SearchStrategy[AuthenticatedData]:
    commits = st.builds(
        CommitData,
        added=_devices(),
        removed=_devices(),
        statement_hash=st.none() | HASHES,
        context=st.none() | contexts(),
    )
    checkpoints = st.builds(Checkpoint, tree_size=COUNTERS, root_hash=HASHES)
    # The relay's answers carry a message id and its successor in a signed 64-bit number.
    ids = st.integers(0, (1 << 63) - 2)
    return st.lists(ids, min_size=2, max_size=2, unique=True).flatmap(
        lambda pair: st.builds(
            AuthenticatedData,
            message_id=st.just(max(pair)),
            previous_id=st.sampled_from([0, min(pair)]),
            priority=st.sampled_from(Priority),
            acknowledgement_asked=st.booleans(),
            target=_targets(),
            checkpoint=st.none() | checkpoints,
            commit=st.none() | commits,
            first_id=st.sampled_from([0, min(pair)]),
        )
    )


@st.composite
def mutated(draw: st.DrawFn, encodings: SearchStrategy[bytes]) -> bytes:
    """A valid encoding with one octet changed, or cut short, or with something behind it."""
    data = draw(encodings)
    place = draw(st.integers(0, max(0, len(data) - 1)))
    kind = draw(st.integers(0, 2))
    if kind == 0:
        return data[:place] + bytes([draw(st.integers(0, 255))]) + data[place + 1 :]
    return data[:place] if kind == 1 else data + draw(st.binary(min_size=1, max_size=4))


def _parts(hint: Any) -> tuple[Any, Meta]:
    if get_origin(hint) is Annotated:
        return hint.__origin__, hint.__metadata__[0]
    return hint, Meta()


def _of_type(hint: Any) -> SearchStrategy[object]:
    base, meta = _parts(hint)
    low, high = meta.min_length or 0, min(meta.max_length or 8, 40)
    if meta.min_length is not None:
        high = max(low, high)
    if base is bytes:
        return st.binary(min_size=low, max_size=high)
    if base is str:
        return st.text("abc/", min_size=low, max_size=high)
    if base is bool:
        return st.booleans()
    if base is int:
        return st.integers(int(meta.ge or 0), int(meta.le or 0))
    if get_origin(base) is tuple:
        return st.lists(_of_type(get_args(base)[0]), min_size=low, max_size=3).map(tuple)
    return st.builds(base, **{f.name: _of_type(f.type) for f in msgspec.structs.fields(base)})


def frame_of(kind: type[Frame]) -> SearchStrategy[Frame]:
    return st.builds(kind, **{f.name: _of_type(f.type) for f in msgspec.structs.fields(kind)})


def any_frame() -> SearchStrategy[Frame]:
    return st.one_of([frame_of(kind) for kind in FRAMES])


def _example(hint: Any) -> object:
    base, meta = _parts(hint)
    low = meta.min_length or 1
    if base is bytes:
        return bytes(range(low))
    if base is str:
        return "ann/phone"[: meta.max_length or 9]
    if base is bool:
        return True
    if base is int:
        return 1
    if get_origin(base) is tuple:
        return (_example(get_args(base)[0]),)
    return base(*(_example(f.type) for f in msgspec.structs.fields(base)))


def example_frame(kind: type[Frame]) -> Frame:
    """The smallest frame of a kind that has something in every field."""
    return kind(**{f.name: _example(f.type) for f in msgspec.structs.fields(kind)})
