"""The TLS presentation language as RFC 9420 uses it: one reader, and functions that write.

A reader accepts exactly the encodings that the writers make, so that what decodes re-encodes to the
same bytes: variable-size lengths must be minimal, an ``optional`` is 0 or 1, nothing may trail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Annotated, Any, Generic, Self, TypeVar, get_type_hints

from crypto.errors import DecodeError, UsageError

K = TypeVar("K")
T = TypeVar("T")

VARINT_MAX = (1 << 30) - 1
"""Largest length of a vector, in bytes (RFC 9420, section 2.1.2)."""


class Reader:
    """A cursor over ``data`` that gives values, or ``DecodeError`` with the offset."""

    __slots__ = ("data", "end", "pos", "struct")

    def __init__(self, data: bytes, struct: str) -> None:
        self.data = data
        self.struct = struct
        self.pos = 0
        self.end = len(data)

    def fail(self) -> DecodeError:
        """Return (not raise) the error for the present offset."""
        return DecodeError(self.struct, self.pos)

    def take(self, size: int) -> bytes:
        """Read exactly ``size`` bytes."""
        pos = self.pos
        stop = pos + size
        if stop > self.end:
            raise DecodeError(self.struct, pos)
        self.pos = stop
        return self.data[pos:stop]

    def u8(self) -> int:
        """Read a ``uint8``."""
        pos = self.pos
        if pos >= self.end:
            raise DecodeError(self.struct, pos)
        self.pos = pos + 1
        return self.data[pos]

    def u16(self) -> int:
        """Read a ``uint16``."""
        return int.from_bytes(self.take(2), "big")

    def u32(self) -> int:
        """Read a ``uint32``."""
        return int.from_bytes(self.take(4), "big")

    def u64(self) -> int:
        """Read a ``uint64``."""
        return int.from_bytes(self.take(8), "big")

    def varint(self) -> int:
        """Read a variable-size length (RFC 9420, section 2.1.2): 1, 2 or 4 bytes, minimal."""
        pos = self.pos
        if pos >= self.end:
            raise DecodeError(self.struct, pos)
        first = self.data[pos]
        if first < 0x40:
            self.pos = pos + 1
            return first
        if first < 0x80:
            value = int.from_bytes(self.take(2), "big") & 0x3FFF
            minimal = value >= 0x40
        elif first < 0xC0:
            value = int.from_bytes(self.take(4), "big") & VARINT_MAX
            minimal = value >= 0x4000
        else:
            minimal = False
        if not minimal:
            raise DecodeError(self.struct, pos)
        return value

    def opaque(self) -> bytes:
        """Read an ``opaque<V>``."""
        pos = self.pos
        size = self.varint()
        stop = self.pos + size
        if stop > self.end:
            raise DecodeError(self.struct, pos)
        start, self.pos = self.pos, stop
        return self.data[start:stop]

    def vector(self, item: Callable[[Reader], T]) -> tuple[T, ...]:
        """Read a ``T<V>``: items until the announced number of *bytes* is used up."""
        pos = self.pos
        size = self.varint()
        outer, stop = self.end, self.pos + size
        if stop > outer:
            raise DecodeError(self.struct, pos)
        self.end = stop
        items = []
        while self.pos < stop:
            items.append(item(self))
        self.end = outer
        return tuple(items)

    def optional(self, item: Callable[[Reader], T]) -> T | None:
        """Read an ``optional<T>``: a presence octet of 0 or 1, then the value."""
        pos = self.pos
        present = self.u8()
        if present > 1:
            raise DecodeError(self.struct, pos)
        return item(self) if present else None

    def finish(self) -> None:
        """Refuse trailing bytes."""
        if self.pos != self.end:
            raise DecodeError(self.struct, self.pos)


def decode(data: bytes, struct: str, item: Callable[[Reader], T]) -> T:
    """Decode the whole of ``data`` as one ``struct``.

    Raises:
        DecodeError: The bytes are no encoding of it, or something trails.
    """
    reader = Reader(data, struct)
    value = item(reader)
    reader.finish()
    return value


def u8(value: int) -> bytes:
    """Encode a ``uint8``."""
    return value.to_bytes(1, "big")


def u16(value: int) -> bytes:
    """Encode a ``uint16``."""
    return value.to_bytes(2, "big")


def u32(value: int) -> bytes:
    """Encode a ``uint32``."""
    return value.to_bytes(4, "big")


def u64(value: int) -> bytes:
    """Encode a ``uint64``."""
    return value.to_bytes(8, "big")


def varint(value: int) -> bytes:
    """Encode a variable-size length (RFC 9420, section 2.1.2)."""
    if value < 0x40:
        return value.to_bytes(1, "big")
    if value < 0x4000:
        return (value | 0x4000).to_bytes(2, "big")
    if value <= VARINT_MAX:
        return (value | 0x80000000).to_bytes(4, "big")
    raise UsageError("a vector longer than 2^30 - 1 bytes")


def opaque(value: bytes) -> bytes:
    """Encode an ``opaque<V>``."""
    return varint(len(value)) + value


def vector(items: Iterable[bytes]) -> bytes:
    """Encode a ``T<V>`` from the encodings of its items."""
    return opaque(b"".join(items))


def optional(value: bytes | None) -> bytes:
    """Encode an ``optional<T>`` from the encoding of its value."""
    return b"\x00" if value is None else b"\x01" + value


# -- structs whose fields say how they are encoded ---------------------------------------------


@dataclass(frozen=True, slots=True)
class Wire(Generic[T]):
    """How a field is read and written."""

    read: Callable[[Reader], T]
    write: Callable[[T], bytes]


U8 = Annotated[int, Wire(Reader.u8, u8)]
U16 = Annotated[int, Wire(Reader.u16, u16)]
U32 = Annotated[int, Wire(Reader.u32, u32)]
U64 = Annotated[int, Wire(Reader.u64, u64)]
Opaque = Annotated[bytes, Wire(Reader.opaque, opaque)]


def vector_of(read: Callable[[Reader], T], write: Callable[[T], bytes]) -> Wire[tuple[T, ...]]:
    """Return how a ``T<V>`` is read and written, from how its items are."""
    return Wire(lambda r: r.vector(read), lambda items: vector(map(write, items)))


def optional_of(read: Callable[[Reader], T], write: Callable[[T], bytes]) -> Wire[T | None]:
    """Return how an ``optional<T>`` is read and written, from how its value is."""
    return Wire(
        lambda r: r.optional(read), lambda value: optional(None if value is None else write(value))
    )


def map_of(key: Wire[K], value: Wire[T]) -> Wire[dict[K, T]]:
    """Return how a vector of pairs is read and written; a key that stands there twice is none."""

    def read(reader: Reader) -> dict[K, T]:
        pairs = reader.vector(lambda r: (key.read(r), value.read(r)))
        found = dict(pairs)
        if len(found) != len(pairs):
            raise reader.fail()
        return found

    return Wire(read, lambda pairs: vector(key.write(k) + value.write(v) for k, v in pairs.items()))


class Struct:
    """A struct of the presentation language: the fields in order, each by its annotation.

    One definition serves both ways, so what decodes re-encodes to the same bytes. A field is
    ``Annotated[..., Wire(...)]`` or another ``Struct``.
    """

    __slots__ = ()

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Read the struct."""
        return cls(**{name: wire.read(reader) for name, wire in _wires(cls)})

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Decode the whole of ``data`` as the struct; ``DecodeError`` where it is none."""
        return decode(data, cls.__name__, cls.read)

    def encode(self) -> bytes:
        """Return the struct's encoding."""
        return b"".join([wire.write(getattr(self, name)) for name, wire in _wires(type(self))])


_Fields = tuple[tuple[str, Wire[Any]], ...]
_fields_of: dict[type[Struct], _Fields] = {}


def _wires(struct: type[Struct]) -> _Fields:
    """Return the fields' names and wires; found once, when a struct is first used."""
    found = _fields_of.get(struct)
    if found is None:
        hints = get_type_hints(struct, include_extras=True)
        found = tuple((f.name, _wire(hints[f.name])) for f in fields(struct))  # type: ignore[arg-type]
        _fields_of[struct] = found
    return found


def _wire(hint: Any) -> Wire[Any]:
    if isinstance(hint, type) and issubclass(hint, Struct):
        return Wire(hint.read, hint.encode)
    (wire,) = (item for item in hint.__metadata__ if isinstance(item, Wire))
    return wire
