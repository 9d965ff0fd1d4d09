"""Founding an organisation: its root, its archive's identity, and the first invitations.

Everything is made in one directory, with files that only their owner reads, and no file is ever
overwritten: whoever repeats it by mistake keeps the organisation that there is.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import segno

from archive import configuration
from archive.authority import ROOT_CERTIFICATE, ROOT_KEY, Authority
from archive.authority_store import AuthorityStore, create_authority_store
from archive.configuration import Configuration, Quorum, RelaySettings
from archive.desk import create_desk
from archive.log import LogFiles, LogKeys, create_log
from crypto.certificate import create_root, fingerprint, pin_root
from crypto.ed25519 import SigningKey
from crypto.enrolment import DeviceKeys, create_request
from crypto.errors import CryptoError, UsageError
from crypto.invitation import Invitation
from crypto.names import Role
from crypto.note import SignatureType, SignerKey, VerifierKey
from crypto.proof import bind_invitation
from crypto.shares import check_split
from crypto.statement import Purpose, Signatory, StatementType, sign_statement
from storage.encrypted import KEY_BYTES
from storage.files import create_private, sync_directory, write_private

RECORDER_USER, RECORDER_DEVICE = "archive", "recorder"
RECORDER = f"{RECORDER_USER}/{RECORDER_DEVICE}"
"""The recorder's name in every organisation, so that everyone knows it in a list of members."""

AUTHORITY_FILE, LOG_FILE, HEAD_FILE, DESK_FILE = "authority.db", "log.db", "head.db", "desk.db"
KEY_FILE, ROOT_FILE, INVITATIONS = "database.key", "root.der", "invitations"
LOG_KEY_FILE, WITNESS_KEY_FILE = "log.vkey", "witness.vkey"
"""Public keys, one verifier key a line, for whoever audits and for the review program."""

SIGNATURE_KEY, CONNECTION_KEY = "recorder signature key", "recorder connection key"
RECORDER_PROOF, RECORDER_BINDING = "recorder invitation", "recorder binding"
LOG_KEY = "log key"
"""Names of the recorder's secrets in the authority's store."""

ADMINISTRATORS = 2
"""Administrators invited at first: one alone could neither make a third nor approve a device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be founded.

    Attributes:
        name: What people call the organisation.
        relay: How it is reached.
        administrators: User names, ``ADMINISTRATORS`` of them.
        officers: User names, at least ``k + 2``.
        k: Officers who must agree to open anything.
        head: File of the last checkpoint signed; empty for one beside the log.
    """

    name: str
    relay: RelaySettings
    administrators: Sequence[str]
    officers: Sequence[str]
    k: int
    head: str = ""

    def check(self) -> None:
        """Refuse what makes no organisation.

        Raises:
            InvalidError: ``k`` and the number of officers are no quorum.
            UsageError: Names repeat, or there are not ``ADMINISTRATORS`` administrators.
        """
        people = [*self.administrators, *self.officers, RECORDER_USER]
        if len(set(people)) != len(people):
            raise UsageError("each administrator and officer is a person of their own")
        if len(self.administrators) != ADMINISTRATORS:
            raise UsageError("an organisation begins with two administrators")
        check_split(k=self.k, n=len(self.officers))


@dataclass(frozen=True, slots=True, kw_only=True)
class Founded:
    """What was founded.

    Attributes:
        fingerprint: Of the root: what every invitation and device pins.
        links: Each invited person's link, for that person alone.
        configuration: The file that ``run`` reads.
    """

    fingerprint: bytes
    links: Mapping[str, str] = field(repr=False)
    configuration: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """Where an archive's files are.

    Attributes:
        authority: The authority's database.
        log: The log and the file of its last checkpoint.
        desk: The officers' letters.
        key: The databases' key.
    """

    authority: Path
    log: LogFiles
    desk: Path
    key: Path


def files_of(file: Path, settings: Configuration) -> Files:
    """Return where the files of a configuration are."""
    data = configuration.resolve(file, settings.data)
    return Files(
        authority=data / AUTHORITY_FILE,
        log=LogFiles(log=data / LOG_FILE, head=configuration.resolve(file, settings.head)),
        desk=data / DESK_FILE,
        key=configuration.resolve(file, settings.key_file),
    )


def database_key(files: Files) -> bytes:
    """Return the key of the databases.

    Raises:
        ConfigurationError: The file is missing, too open, or holds no key.
    """
    try:
        mode = files.key.stat().st_mode
        key = files.key.read_bytes()
    except OSError as error:
        raise configuration.ConfigurationError(f"{files.key}: {error.strerror}") from None
    if mode & 0o077 or len(key) != KEY_BYTES:
        raise configuration.ConfigurationError(
            f"{files.key}: a key of {KEY_BYTES} bytes that only its owner reads is wanted"
        )
    return key


def found(file: Path, plan: Plan, *, now_ms: int) -> Founded:
    """Make the organisation of ``plan`` in the folder of ``file``; it is durable when this returns.

    Raises:
        FileExistsError: There is a file already; nothing of it was changed.
        InvalidError: A name, the address or the quorum breaks its rule.
        UsageError: People repeat or are missing.
        ArchiveError: There is no room, or the disk failed.
    """
    plan.check()
    folder = file.parent
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if file.exists():
        raise FileExistsError(file)
    data = folder / "data"
    data.mkdir(mode=0o700)
    root, held = _identity(plan.name, now_ms=now_ms)
    settings = _settings(plan, fingerprint(root))
    files = files_of(file, settings)
    key = secrets.token_bytes(KEY_BYTES)
    write_private(files.key, key)
    _create_log(files, key, SignerKey.decode(held[LOG_KEY].decode()))
    create_authority_store(files.authority, key, held=held)
    create_desk(files.desk, key)
    links = _begin(files, key, plan, now_ms=now_ms)
    write_private(folder / ROOT_FILE, root)
    signer = SignerKey.decode(held[LOG_KEY].decode())
    write_private(folder / LOG_KEY_FILE, signer.verifier.encode().encode() + b"\n")
    if plan.relay.witness:
        pin_witness(file, VerifierKey.decode(plan.relay.witness))
    _write_links(folder / INVITATIONS, links)
    # The last file: without it nothing here is an archive, with it everything is.
    write_private(file, configuration.write(settings).encode())
    return Founded(fingerprint=fingerprint(root), links=links, configuration=file)


def _identity(name: str, *, now_ms: int) -> tuple[bytes, dict[str, bytes]]:
    """Return a new root's certificate, and the secrets that the authority's store begins with."""
    root, key = create_root(name, at_ms=now_ms)
    signature_key, connection_key = SigningKey.generate(), SigningKey.generate()
    signer = new_log_key(f"{fingerprint(root).hex()[:16]}.archive.wardline/")
    return root, {
        ROOT_CERTIFICATE: root,
        ROOT_KEY: key.seed,
        SIGNATURE_KEY: signature_key.seed,
        CONNECTION_KEY: connection_key.seed,
        LOG_KEY: signer.encode().encode(),
        **_recorder_proof(root, key, signature_key, connection_key, now_ms=now_ms),
    }


def _recorder_proof(
    root: bytes,
    authority: SigningKey,
    signature_key: SigningKey,
    connection_key: SigningKey,
    *,
    now_ms: int,
) -> dict[str, bytes]:
    """Return the recorder's own invitation and its binding, as any device has them."""
    organisation = pin_root(root, organisation=fingerprint(root)).organisation
    seed = SigningKey.generate()
    body = Invitation(
        invitation_key=seed.public_key,
        user=RECORDER_USER,
        roles=frozenset({Role.RECORDER}),
        ends_ms=None,
    ).encode()
    statement = sign_statement(
        StatementType.INVITATION,
        body,
        organisation=organisation,
        issued_ms=now_ms,
        lifetime_ms=24 * 60 * 60 * 1000,
        signatory=Signatory(purpose=Purpose.AUTHORITY, fingerprint=organisation, key=authority),
    )
    keys = _device_keys(signature_key, connection_key)
    binding = bind_invitation(statement, claim=keys.claim, key=seed)
    return {RECORDER_PROOF: statement, RECORDER_BINDING: binding}


def new_log_key(origin: str) -> SignerKey:
    """Return a key for a new log; its origin is another than any before, under the same name."""
    name, _, _ = origin.partition("/")
    return SignerKey.generate(f"{name}/{secrets.token_hex(4)}", SignatureType.ED25519)


def _device_keys(signature_key: SigningKey, connection_key: SigningKey) -> DeviceKeys:
    return DeviceKeys(
        user=RECORDER_USER,
        device=RECORDER_DEVICE,
        signature_key=signature_key,
        connection_key=connection_key,
    )


def recorder_keys(store: AuthorityStore) -> DeviceKeys:
    """Return the recorder's keys."""
    return _device_keys(
        SigningKey.from_seed(store.secret(SIGNATURE_KEY) or b""),
        SigningKey.from_seed(store.secret(CONNECTION_KEY) or b""),
    )


def recorder_request(store: AuthorityStore, *, organisation: bytes, now_ms: int) -> bytes:
    """Return the recorder's request for its next certificate."""
    return create_request(
        recorder_keys(store),
        organisation=organisation,
        statement=store.secret(RECORDER_PROOF) or b"",
        binding=store.secret(RECORDER_BINDING) or b"",
        at_ms=now_ms,
    )


def log_signer(store: AuthorityStore) -> SignerKey:
    """Return the key that signs the log's checkpoints."""
    return SignerKey.decode((store.secret(LOG_KEY) or b"").decode())


def log_key(file: Path) -> VerifierKey:
    """Return the key by which checkpoints of the log are verified.

    Raises:
        ConfigurationError: The file beside the configuration is missing or holds no such key.
    """
    return _verifier_keys(file.parent / LOG_KEY_FILE)[0]


def witness_keys(file: Path) -> tuple[VerifierKey, ...]:
    """Return the keys of the witnesses that are pinned, the relay's first; none at first.

    Raises:
        ConfigurationError: The file beside the configuration holds something else.
    """
    path = file.parent / WITNESS_KEY_FILE
    return _verifier_keys(path) if path.exists() else ()


def pin_witness(file: Path, key: VerifierKey) -> None:
    """Pin the relay's key as witness, once.

    Raises:
        FileExistsError: One is pinned already.
    """
    write_private(file.parent / WITNESS_KEY_FILE, key.encode().encode() + b"\n")


def add_witness(file: Path, key: VerifierKey) -> None:
    """Pin the relay's new key before those that it had; what they cosigned stays verifiable."""
    keys = (key, *(one for one in witness_keys(file) if one != key))
    path = file.parent / WITNESS_KEY_FILE
    made = path.with_suffix(".new")
    made.unlink(missing_ok=True)
    write_private(made, "".join(one.encode() + "\n" for one in keys).encode())
    made.rename(path)
    sync_directory(path.parent)


def _verifier_keys(path: Path) -> tuple[VerifierKey, ...]:
    try:
        keys = tuple(VerifierKey.decode(line) for line in path.read_text().splitlines())
    except OSError as error:
        raise configuration.ConfigurationError(f"{path}: {error.strerror}") from None
    except (CryptoError, UnicodeDecodeError):
        keys = ()
    if not keys:
        raise configuration.ConfigurationError(f"{path}: one verifier key a line is wanted")
    return keys


def _settings(plan: Plan, organisation: bytes) -> Configuration:
    return Configuration(
        organisation=organisation.hex(),
        data="data",
        head=plan.head or f"data/{HEAD_FILE}",
        key_file=KEY_FILE,
        relay=plan.relay,
        quorum=Quorum(k=plan.k, officers=tuple(plan.officers)),
    )


def _create_log(files: Files, key: bytes, signer: SignerKey) -> None:
    # No witness cosigns the empty tree, so that its key is not asked for here.
    create_log(files.log, LogKeys(database=key, signer=signer, witness=signer.verifier))


def _begin(files: Files, key: bytes, plan: Plan, *, now_ms: int) -> dict[str, str]:
    """Certify the recorder and invite the first people; return their links."""
    store = AuthorityStore(files.authority, key)
    try:
        authority = Authority(store)
        organisation = authority.root.organisation
        authority.certify(
            recorder_request(store, organisation=organisation, now_ms=now_ms), now_ms=now_ms
        )
        authority.renew_list(now_ms=now_ms)
        at = configuration.address(plan.relay)
        return {
            user: authority.invite(user, [role], at=at, now_ms=now_ms).link.encode()
            for user, role in _first_people(plan)
        }
    finally:
        store.close()


def _first_people(plan: Plan) -> Iterator[tuple[str, Role]]:
    for user in plan.administrators:
        yield user, Role.ADMINISTRATOR
    for user in plan.officers:
        yield user, Role.OFFICER


def _write_links(folder: Path, links: Mapping[str, str]) -> None:
    folder.mkdir(mode=0o700)
    for user, link in links.items():
        write_link(folder, user, link)


def write_link(folder: Path, user: str, link: str) -> None:
    """Write a person's link as text and as a picture to scan, for the owner's eyes alone.

    Raises:
        FileExistsError: The person has an invitation there already.
    """
    write_private(folder / f"{user}.txt", link.encode() + b"\n")
    picture = folder / f"{user}.svg"
    create_private(picture)
    segno.make_qr(link).save(str(picture), scale=4)
