"""The archive's configuration: one TOML file, written by ``init``, read once.

Unknown keys and values out of range stop the start. Each field says its unit and default, what goes
wrong when it is mis-set, and what somebody who controls it gains. Keys are in files of their own,
and no field turns recording, witnessing or the officers' quorum off.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from archive.authority import Address
from crypto.errors import CryptoError
from protocol.quorum import Quorum as Rule

Hash = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class ConfigurationError(Exception):
    """The configuration cannot be used; the text says which file and key."""


class RelaySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The relay that the archive connects to; it is never connected to itself.

    Attributes:
        host: DNS name or address. Wrong: nothing is recorded, and an alarm says so.
        port: TCP port, default 8443.
        pin: SHA-256 of the relay's TLS key, hexadecimal. Who controls it and the network can stand
            between and see what the relay sees.
        witness: Verifier key of the relay as witness, which ``init`` pins. Where it is empty, the
            first connection pins the one that the relay with this TLS key tells.
    """

    host: str
    port: Annotated[int, Meta(ge=1, le=65535)] = 8443
    pin: Hash
    witness: str = ""


class Quorum(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who opens what is recorded.

    Attributes:
        k: Officers who must agree. Fewer: collusion is easier. Who lowers it lowers it for what is
            recorded from then on, never for what is sealed.
        officers: Their user names, at least ``k + 2`` of them.
        emergency_k: Officers who must agree in an emergency, default ``k``. What is sealed is
            split for the smaller number.
    """

    k: Annotated[int, Meta(ge=2, le=64)]
    officers: tuple[str, ...]
    emergency_k: Annotated[int, Meta(ge=0, le=64)] = 0

    @property
    def rule(self) -> Rule:
        """The rule of opening.

        Raises:
            InvalidError: The numbers are no quorum.
        """
        return Rule(k=self.k, n=len(set(self.officers)), emergency_k=self.emergency_k or self.k)


class Alarms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When ``status`` and the metrics raise an alarm.

    Attributes:
        lag_s: Seconds since the last witnessed checkpoint, default 120.
        clock_ms: Difference of this host's clock from the relay's in ms, default 60,000.
        free_bytes: Free bytes of the disk, default 2 GB.
    """

    lag_s: Annotated[int, Meta(ge=1)] = 120
    clock_ms: Annotated[int, Meta(ge=1000)] = 60_000
    free_bytes: Annotated[int, Meta(ge=0)] = 2_000_000_000


class MirrorHost(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The machine to which the log is copied as it grows; the archive connects to it.

    Attributes:
        host: DNS name or address inside the hospital's network. Wrong: an alarm says so.
        port: TCP port, default 8444.
        pin: SHA-256 of its TLS key, hexadecimal. Who controls it and the network gets a copy that
            is sealed, and can say that it was kept.
        token_file: File with the token by which it knows this archive.
        wait: Whether receipts wait for it, default true. With false they go on while it is away:
            what was acknowledged then stands on one machine, until it is back.
    """

    host: str
    port: Annotated[int, Meta(ge=1, le=65535)] = 8444
    pin: Hash
    token_file: str
    wait: bool = True


class Configuration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of it.

    Attributes:
        organisation: Fingerprint of the root. Another one is another organisation.
        data: Directory of the log, the authority's database and the recorder's state.
        head: File with the last checkpoint signed, best on another disk than ``data``: who sets
            back both at once is noticed by the witnesses alone.
        key_file: File with the key of the databases. Who reads it and ``data`` is the archive.
        relay: The relay.
        quorum: Who opens what is recorded.
        mirror: Directory to which the log is copied as it grows, empty for none. Receipts wait
            for it where it is given.
        mirror_host: Another machine to which the log is copied as it grows; none by default.
        alarms: When an alarm is raised.
        log_level: Lowest level that is logged, default INFO; DEBUG adds no names and no content.
    """

    organisation: Hash
    data: str
    head: str
    key_file: str
    relay: RelaySettings
    quorum: Quorum
    mirror: str = ""
    mirror_host: MirrorHost | None = None
    alarms: Alarms = msgspec.field(default_factory=Alarms)
    log_level: Annotated[str, Meta(pattern="^(DEBUG|INFO|WARNING|ERROR)$")] = "INFO"


def read(path: Path) -> Configuration:
    """Return the configuration in a file.

    Raises:
        ConfigurationError: It cannot be read, has an unknown key or a value out of range, or its
            quorum is none.
    """
    try:
        value = msgspec.convert(tomllib.loads(path.read_text()), Configuration)
        _ = value.quorum.rule
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: {error}") from None
    except CryptoError as error:
        raise ConfigurationError(f"{path}: quorum: {error}") from None
    return value


def write(value: Configuration) -> str:
    """Return the file's text for a configuration."""
    plain = {key: part for key, part in msgspec.to_builtins(value).items() if part is not None}
    tables = {key: part for key, part in plain.items() if isinstance(part, dict)}
    lines = [_line(key, part) for key, part in plain.items() if key not in tables]
    for name, table in tables.items():
        lines += ["", f"[{name}]", *(_line(key, part) for key, part in table.items())]
    return "\n".join(lines) + "\n"


def _line(key: str, value: object) -> str:
    # What JSON writes of text, numbers and lists of text is TOML too.
    return f"{key} = {json.dumps(value, ensure_ascii=True)}"


def resolve(configuration_file: Path, name: str) -> Path:
    """Return a path of the configuration, taken from its file's folder where it is relative."""
    return configuration_file.parent / name


def address(relay: RelaySettings) -> Address:
    """Return the relay as invitations name it."""
    return Address(host=relay.host, port=relay.port, tls_pin=bytes.fromhex(relay.pin))
