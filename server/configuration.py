"""The relay's configuration: one TOML file, read once.

Unknown keys and values out of range stop the start. Each field says its unit and default, what goes
wrong when it is mis-set, and what somebody who controls it gains. No field turns encryption,
archive or audit off.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from protocol import limits

Count = Annotated[int, Meta(ge=1, le=1_000_000_000)]
Rate = Annotated[float, Meta(gt=0, le=1_000_000)]
Port = Annotated[int, Meta(ge=0, le=65535)]


_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class ConfigurationError(Exception):
    """The configuration cannot be used; the text says which file and key."""


class Listen(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the relay listens.

    Attributes:
        host: Address, default all of IPv4's. Wrong: nobody reaches it, or more than were meant.
        port: TCP port, default 8443; 0 takes a free one.
        certificate: PEM file of the TLS certificate chain, default the one that ``init`` made.
            Who controls it and the key can stand between and see metadata.
        key: PEM file of its private key.
        behind_proxy: Whether a proxy on this host ends TLS, default no. The relay then speaks
            plain, on the loopback addresses alone, and ``pin_file`` names the proxy's key.
        proxies: Addresses of proxies whose ``X-Forwarded-For`` names the client, default the
            loopback ones behind a proxy and none otherwise. Whoever speaks from one of them can
            pass for any address, and so evade the limits that count addresses.
        pin_file: File with the hexadecimal pin of the proxy's TLS key. Wrong: every client leaves.
        origins: Web origins whose pages may connect, default none. More: such a page may try.
    """

    host: str = "0.0.0.0"  # noqa: S104 - a relay is there to be reached
    port: Port = 8443
    certificate: str = ""
    key: str = ""
    behind_proxy: bool = False
    proxies: tuple[str, ...] = ()
    pin_file: str = ""
    origins: tuple[str, ...] = ()

    def believed(self) -> frozenset[str]:
        """Return the addresses of proxies whose word about the client counts."""
        return frozenset(self.proxies or (_LOOPBACK if self.behind_proxy else ()))


class Rates(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often something may be done, per second in the long run; ten times that at once.

    Too low: people wait in bursts. Too high: one device or address takes the machine's time.

    Attributes:
        messages: Per device, routine and urgent ones apart, default 20.
        commits: Per device, default 1.
        requests: Look-ups and the like per device, default 20.
        claims: Key packages of one device per claimant, default 0.1.
        connections: New connections per address (of IPv6: per /64), default 50: a hospital is one.
        secrets: Tries of passwords, codes and PINs per account, default 0.02.
        personal: What people ask for themselves (quiet hours, shifts) per device, default 0.05: the
            control log keeps it for good, and each new device reads it.
        kept_bytes: Bytes that one device may leave for others to fetch, routine and urgent ones
            apart, default 2,000, and 64 MiB at once. Too high: the disk fills by one stolen device.
    """

    messages: Rate = 20.0
    commits: Rate = 1.0
    requests: Rate = 20.0
    claims: Rate = 0.1
    connections: Rate = 50.0
    secrets: Rate = 0.02
    personal: Rate = 0.05
    kept_bytes: Annotated[float, Meta(gt=0, le=1_000_000_000_000)] = 2000.0


class Storage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long and how much is kept.

    Attributes:
        expiry_days: Days until what nobody fetched is let go of, default 30. Fewer: devices on
            holiday must be added again. More: ciphertext lies longer.
        backlog_entries: Entries of a conversation that wait for the archive before routine
            messages are refused, default 20,000. Fewer: the archive's outage is felt sooner.
        attachment_days: Days until an attachment that somebody did not fetch goes, default 30.
        attachment_quota_bytes: Bytes of attachments that one organisation may have waiting,
            default 50 GB. Too high: the disk fills.
    """

    expiry_days: Annotated[int, Meta(ge=1, le=365)] = 30
    backlog_entries: Count = 20_000
    attachment_days: Annotated[int, Meta(ge=1, le=365)] = 30
    attachment_quota_bytes: Annotated[int, Meta(ge=limits.ATTACHMENT_BYTES)] = 50_000_000_000


class SecondChannelSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How somebody is told that a page waits when no device of theirs answers; default not at all.

    Attributes:
        people: TOML file with ``number`` and ``mail`` of each user, read again when it changes.
            Wrong: the wrong person is told that a page waits, never what it says.
        command: Program and arguments; it gets ``--``, number, a word (``stat``), role, a text.
            Who controls it learns who is on call and when they are paged.
        smtp_host: Mail server; none where it is empty.
        smtp_port: Its port, default 25.
        smtp_tls: Whether to demand TLS by STARTTLS with a valid certificate, default yes. Without:
            whoever stands between learns the same.
        mail_from: Sender's address.
    """

    people: str
    command: tuple[str, ...] = ()
    smtp_host: str = ""
    smtp_port: Port = 25
    smtp_tls: bool = True
    mail_from: str = "wardline@localhost"


class OrganisationSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One organisation that the relay serves.

    Attributes:
        root: DER file of its root certificate. Another file is another organisation.
    """

    root: str


class Configuration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of it.

    Attributes:
        data: Directory of databases, attachments and keys, the relay's alone. Who reads it has
            undelivered ciphertext and metadata, who writes it can lose messages.
        organisations: Whom the relay serves.
        listen: Where it listens.
        rates: How often something may be done.
        storage: How long and how much is kept.
        second_channel: How people are told of a page that their devices do not answer.
        log_level: Lowest level that is logged, default INFO; DEBUG adds no names and no content.
    """

    data: str
    organisations: tuple[OrganisationSettings, ...]
    listen: Listen = msgspec.field(default_factory=Listen)
    rates: Rates = msgspec.field(default_factory=Rates)
    storage: Storage = msgspec.field(default_factory=Storage)
    second_channel: SecondChannelSettings | None = None
    log_level: Annotated[str, Meta(pattern="^(DEBUG|INFO|WARNING|ERROR)$")] = "INFO"


def read(path: Path) -> Configuration:
    """Return the configuration in a file, its relative paths taken from the file's folder.

    Raises:
        ConfigurationError: It cannot be read, has an unknown key or a value out of range, or says
            things that contradict each other.
    """
    try:
        value = msgspec.convert(tomllib.loads(path.read_text()), Configuration)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: {error}") from None
    listen = value.listen
    if listen.behind_proxy and (listen.host not in _LOOPBACK or not listen.pin_file):
        raise ConfigurationError(f"{path}: behind a proxy, listen on loopback and give pin_file")
    if bool(listen.certificate) is not bool(listen.key):
        raise ConfigurationError(f"{path}: a certificate and its key are given together")
    return value


def resolve(configuration_file: Path, name: str) -> Path:
    """Return a path of the configuration, taken from its file's folder where it is relative."""
    return configuration_file.parent / name
