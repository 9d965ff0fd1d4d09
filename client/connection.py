"""What a locked device connects with: the relay's address, who the device is, its connection key.

It lies beside the locked store and is not encrypted, for a device that is locked must connect too.
A thief of the disk so sees as which device it connects and where to, and can do with the key what
a locked device can: ring, answer a page, receive its wipe order.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from client.errors import DamagedError
from client.link import Address, Credentials, Link
from client.profile import CONNECTION, Profile
from crypto import codec, ed25519
from crypto.certificate import FINGERPRINT_BYTES, Root, pin_root
from crypto.codec import Reader
from crypto.ed25519 import SigningKey
from crypto.errors import CryptoError
from crypto.invitation import TLS_PIN_BYTES
from crypto.names import read_text, write_text
from protocol.identifiers import DeviceId, OrganisationId, device_id

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Connection:
    """What a profile's connection file holds.

    Attributes:
        address: The relay.
        device: The device.
        connection_key: Outside the locked store.
        root: The organisation's root certificate, DER; empty until the device is enrolled.
        certificate: The device's newest, DER; empty until it is enrolled.
    """

    address: Address
    device: DeviceId
    connection_key: SigningKey = field(repr=False)
    root: bytes = b""
    certificate: bytes = b""

    def encode(self) -> bytes:
        """Return the file's content."""
        return b"".join(
            (
                codec.u8(VERSION),
                self.address.organisation,
                self.address.tls_pin,
                codec.u16(self.address.port),
                write_text(self.address.host),
                write_text(self.device),
                self.connection_key.seed,
                codec.opaque(self.root),
                codec.opaque(self.certificate),
            )
        )

    def certified(self, certificate: bytes, *, root: bytes) -> Connection:
        """Return this with a certificate and the root that issued it."""
        return replace(self, certificate=certificate, root=root)

    def credentials(self, signature_key: SigningKey | None = None) -> Credentials:
        """Return as whom the device connects: locked, unless its own key is given."""
        return Credentials(
            device=self.device,
            certificate=self.certificate,
            connection_key=self.connection_key,
            signature_key=signature_key,
        )

    def pinned_root(self) -> Root:
        """Return the root.

        Raises:
            DamagedError: What was kept is not the organisation's root.
        """
        try:
            return pin_root(self.root, organisation=self.address.organisation)
        except CryptoError:
            raise DamagedError(CONNECTION) from None


def read(profile: Profile) -> Connection:
    """Return what a profile connects with.

    Raises:
        DamagedError: It is missing, or not what was written.
    """
    try:
        return codec.decode(profile.connection(), "Connection", _read)
    except CryptoError:
        raise DamagedError(CONNECTION) from None


def keep(profile: Profile, connection: Connection) -> None:
    """Replace what a profile connects with, as each renewed certificate wants.

    Raises:
        WipingError: A wipe has begun.
    """
    profile.keep_connection(connection.encode())


async def move(profile: Profile, *, host: str, port: int, tls_pin: bytes) -> None:
    """Let a profile connect with a relay at another place, or with another key, once it has.

    Args:
        profile: The device's.
        host: Where the relay is.
        port: Its port.
        tls_pin: SHA-256 of its SubjectPublicKeyInfo, which an administrator said by another way.

    Raises:
        DamagedError: What it connects with is missing, or not what was written.
        LinkError: No relay there has that key and lets the device in; nothing was changed.
        StoreError: A wipe has begun, or the disk takes nothing.
    """
    before = read(profile)
    address = replace(before.address, host=host, port=port, tls_pin=tls_pin)
    link = await Link.open(address, before.credentials())
    await link.close()
    # Read again: a program that runs may have renewed the certificate meanwhile.
    keep(profile, replace(read(profile), address=address))


def renew(profile: Profile, certificate: bytes) -> None:
    """Let a profile connect with this certificate, unless it does already.

    Raises:
        DamagedError: What it connects with is missing, or not what was written.
        StoreError: A wipe has begun, or the disk takes nothing.
    """
    connection = read(profile)
    if certificate != connection.certificate:
        keep(profile, connection.certified(certificate, root=connection.root))


def _read(reader: Reader) -> Connection:
    if reader.u8() != VERSION:
        raise reader.fail()
    organisation = OrganisationId(reader.take(FINGERPRINT_BYTES))
    pin, port, host = reader.take(TLS_PIN_BYTES), reader.u16(), read_text(reader)
    return Connection(
        address=Address(host=host, port=port, tls_pin=pin, organisation=organisation),
        device=device_id(read_text(reader)),
        connection_key=SigningKey.from_seed(reader.take(ed25519.SEED_BYTES)),
        root=reader.opaque(),
        certificate=reader.opaque(),
    )
