"""What is fuzzed: every decoder that takes bytes, found by its signature, and some more.

Any bytes give a value or a documented error, and what decodes re-encodes to the same bytes. A
decoder that is new is here without being written down.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, is_dataclass
from types import ModuleType
from typing import Any

import crypto
import protocol
from client.errors import StoreError
from crypto.certificate import create_root, decode_certificate, fingerprint, pin_root
from crypto.errors import CryptoError, UsageError
from crypto.mls.cipher_suite import X25519_CHACHA20POLY1305_SHA256_ED25519 as SUITE
from crypto.mls.ratchet_tree import RatchetTree
from crypto.mls.secret_tree import decode_secret_node, encode_secret_node
from crypto.note import Note
from protocol import content, frames
from protocol.errors import RemoteProtocolError
from protocol.frames import Sender
from protocol.routing import route
from protocol.session import Session, State

BEGAN_MS = 1_795_000_000_000

FURTHER = ("archive.body", "archive.record", "archive.segment", "client.records")
"""Modules of other packages with decoders of what is kept or carried."""

WRITTEN_IN_PARTS = {"protocol.letters.decode_letter"}
"""Functions whose values are written by what sends them, around the value's own encoding."""

FOUND_BY_HAND = {"crypto.codec", "crypto.note"}
"""Modules whose decoders take parts of a text: what contains them is fuzzed."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A parser.

    Attributes:
        parse: Gives a value, or raises what is documented.
        again: Gives a value's bytes; ``None`` where nobody writes them.
    """

    parse: Callable[[bytes], Any]
    again: Callable[[Any], bytes] | None = None

    def __call__(self, data: bytes) -> None:
        """Parse, and see that what was parsed is written as it was.

        Raises:
            AssertionError: It is not.
        """
        try:
            value = self.parse(data)
        except UsageError:
            raise
        except (CryptoError, RemoteProtocolError, StoreError):
            return
        if self.again is not None:
            assert self.again(value) == data


def targets() -> dict[str, dict[str, Target]]:
    """Return every target by its name, in groups by module."""
    found = {module.__name__: dict(_found_in(module)) for module in _modules()}
    return {name: group for name, group in found.items() if group} | {
        name: {name: target} for name, target in _by_hand().items()
    }


def _modules() -> Iterator[ModuleType]:
    for package in (crypto, protocol):
        for one in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if one.name not in FOUND_BY_HAND:
                yield importlib.import_module(one.name)
    yield from map(importlib.import_module, FURTHER)


def _found_in(module: ModuleType) -> Iterator[tuple[str, Target]]:
    for name, one in vars(module).items():
        if getattr(one, "__module__", None) != module.__name__:
            continue
        if inspect.isfunction(one) and name.startswith("decode") and _takes_bytes(one):
            yield name, Target(parse=one, again=_encoder(module, name))
        elif inspect.isclass(one) and is_dataclass(one) and _decodes(one):
            decode: Callable[[bytes], Any] = getattr(one, "decode")  # noqa: B009 - found by name
            yield name, Target(parse=decode, again=_encoded if _is_pair(one) else None)


def _decodes(kind: type[Any]) -> bool:
    decode = getattr(kind, "decode", None)
    return decode is not None and hasattr(kind, "encode") and _takes_bytes(decode)


def _is_pair(kind: type[Any]) -> bool:
    """Tell whether one class has both ways: else one of them writes or reads more around it."""
    defined = ([one for one in kind.__mro__ if way in vars(one)] for way in ("decode", "encode"))
    reads, writes = defined
    return reads[0] is writes[0]


def _takes_bytes(decode: Callable[..., Any]) -> bool:
    parameters = list(inspect.signature(decode).parameters.values())
    return len(parameters) == 1 and parameters[0].annotation == "bytes"


def _encoder(module: ModuleType, decoder: str) -> Callable[[Any], bytes] | None:
    """Return what writes what a function reads: its counterpart, or the value itself."""
    if f"{module.__name__}.{decoder}" in WRITTEN_IN_PARTS:
        return None
    encoder: Callable[[Any], bytes] = vars(module).get(
        decoder.replace("decode", "encode"), _encoded
    )
    return encoder


def _encoded(value: Any) -> bytes:
    encoded: bytes = value.encode()
    return encoded


def _by_hand() -> dict[str, Target]:
    der, _ = create_root("St. Elsewhere", at_ms=BEGAN_MS)
    root = pin_root(der, organisation=fingerprint(der))
    return {
        "certificate": Target(parse=lambda data: decode_certificate(data, root=root)),
        "content": Target(parse=content.decode, again=content.encode),
        "frame of a client": _frame(Sender.CLIENT),
        "frame of a relay": _frame(Sender.RELAY),
        "message to be routed": Target(parse=route),
        "note": Target(parse=Note.decode),
        "ratchet tree": Target(parse=lambda data: RatchetTree.decode(SUITE, data), again=_encoded),
        "secret node": Target(
            parse=lambda data: decode_secret_node(data, leaf=True), again=encode_secret_node
        ),
        "session": Target(parse=_session),
    }


def _frame(sender: Sender) -> Target:
    return Target(parse=lambda data: frames.decode(data, sender=sender), again=frames.encode)


def _session(data: bytes) -> object:
    session = Session(Sender.RELAY)
    session.state = list(State)[data[0] % len(State)] if data else State.OPEN
    return session.receive(data[1:])
