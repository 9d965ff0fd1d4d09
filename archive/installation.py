"""An archive's files, opened together and closed together, as its configuration names them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from archive import configuration, founding
from archive.alarms import Alarm
from archive.authority import Authority
from archive.authority_store import AuthorityStore
from archive.casework import Casework
from archive.casework import Officers as CaseOfficers
from archive.configuration import Configuration
from archive.conversations import Identity
from archive.cosigning import Cosigners
from archive.desk import Desk
from archive.founding import RECORDER, Files
from archive.log import Log, LogKeys
from archive.mirror import Mirror
from archive.mirror_link import SecondMachine, Sources
from archive.progress import Progress
from archive.record import RecordType
from archive.recorder import Recorder
from archive.sealing import Officers
from archive.steward import Steward
from archive.store import Store
from archive.watch import Places
from client.link import Address, Credentials
from crypto.certificate import RENEWAL_MS, decode_certificate, fingerprint
from crypto.enrolment import DeviceKeys
from crypto.note import NoteSignature, VerifierKey
from crypto.statement import Purpose, Signatory
from crypto.witness import AddCheckpoint
from protocol.identifiers import DeviceId, OrganisationId, UserName

_MOST = 90
"""Certificates that are recorded in one transaction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """What a configuration leads to, but for the log.

    Attributes:
        file: The configuration file.
        settings: What it says.
        files: Where everything is.
        authority: The authority, open.
        store: Its database.
        keys: The recorder's.
    """

    file: Path
    settings: Configuration
    files: Files
    authority: Authority
    store: AuthorityStore
    keys: DeviceKeys = field(repr=False)

    @property
    def organisation(self) -> OrganisationId:
        """Whose archive it is."""
        return OrganisationId(self.authority.root.organisation)

    @property
    def address(self) -> Address:
        """Where the relay is."""
        relay = self.settings.relay
        return Address(
            host=relay.host,
            port=relay.port,
            tls_pin=bytes.fromhex(relay.pin),
            organisation=self.organisation,
        )

    def certificate(self) -> bytes:
        """Return the recorder's newest certificate."""
        return self.authority.certificates()[RECORDER]

    def credentials(self) -> Credentials:
        """Return as whom the recorder connects."""
        return Credentials(
            device=DeviceId(RECORDER),
            certificate=self.certificate(),
            connection_key=self.keys.connection_key,
            signature_key=self.keys.signature_key,
        )

    def renew(self, *, now_ms: int) -> None:
        """Renew what runs out: the recorder's certificate, and the revocation list."""
        known = decode_certificate(self.certificate(), root=self.authority.root)
        if now_ms - known.not_before_ms >= RENEWAL_MS:
            request = founding.recorder_request(
                self.store, organisation=self.organisation, now_ms=now_ms
            )
            self.authority.certify(request, now_ms=now_ms)
        self.authority.renew_list(now_ms=now_ms)

    def identity(self) -> Identity:
        """Return as whom the recorder signs."""
        signatory = Signatory(
            purpose=Purpose.RECORDER,
            fingerprint=fingerprint(self.certificate()),
            key=self.keys.signature_key,
        )
        return Identity(
            organisation=self.organisation, device=DeviceId(RECORDER), signatory=signatory
        )

    def open_log(self, witness: VerifierKey) -> Log:
        """Return the log, open.

        Raises:
            ArchiveError: It is damaged, set back, or cannot be used.
        """
        keys = LogKeys(
            database=founding.database_key(self.files),
            signer=founding.log_signer(self.store),
            witness=witness,
        )
        return Log(self.files.log, keys, cosigner=_nobody)

    def recorder(self, log: Log) -> Recorder:
        """Return the recorder over a log."""
        quorum = self.settings.quorum
        officers = Officers(quorum=quorum.rule, users=quorum.officers)
        return Recorder(log, self.authority, me=self.identity(), officers=officers)

    @property
    def data(self) -> Path:
        """The directory of the databases."""
        return configuration.resolve(self.file, self.settings.data)

    @property
    def places(self) -> Places:
        """Where the watch looks and writes."""
        return Places(data=self.data)

    @contextmanager
    def desk(self) -> Iterator[Desk]:
        """Open the desk, and close it in the end.

        Raises:
            ArchiveError: It is damaged, or cannot be used.
        """
        with closing(Desk(self.files.desk, founding.database_key(self.files))) as desk:
            yield desk

    @contextmanager
    def mirror(self) -> Iterator[Mirror | None]:
        """Open the mirror where one is configured, and close it in the end.

        Raises:
            ArchiveError: It is damaged, or cannot be written.
        """
        if not self.settings.mirror:
            yield None
            return
        folder = configuration.resolve(self.file, self.settings.mirror)
        key = founding.database_key(self.files)
        with closing(Mirror(folder, self.files, key)) as mirror:
            yield mirror

    def mirror_machine(self, recorder: Recorder, progress: Progress) -> SecondMachine | None:
        """Return what follows the log to another machine, where one is configured.

        Raises:
            ConfigurationError: The token's file cannot be used.
        """
        host = self.settings.mirror_host
        if host is None:
            return None
        sources = Sources(
            log=recorder.log,
            file=self.file,
            data=self.data,
            key=founding.database_key(self.files),
        )
        return SecondMachine(host, sources, tell=partial(_told, recorder, progress))

    def casework(self, desk: Desk, store: Store) -> Casework:
        """Return who works through the officers' letters."""
        quorum = self.settings.quorum
        officers = CaseOfficers(
            organisation=self.organisation,
            names=tuple(map(UserName, quorum.officers)),
            quorum=quorum.rule,
        )
        return Casework(desk, store, officers, trust=lambda: self.authority.trust)

    def cosigners(self) -> Cosigners:
        """Return what officers' devices vouch for as witnesses."""
        return Cosigners(self.store, self.settings.quorum.officers)

    def steward(self, recorder: Recorder) -> Steward:
        """Return the steward over a recorder."""
        return Steward(
            recorder, signature_key=self.keys.signature_key, certificate=self.certificate
        )


def _told(recorder: Recorder, progress: Progress, held: int | None) -> None:
    """Take in how much the mirror's machine has confirmed, or that it is away."""
    if held is not None:
        progress.mirrored = held
        recorder.alarms.pop(Alarm.MIRROR, None)
    elif Alarm.MIRROR not in recorder.alarms:
        recorder.raise_alarm(Alarm.MIRROR)


def _nobody(_request: AddCheckpoint) -> NoteSignature:
    """The witness is asked over the connection, never from inside the log."""
    raise AssertionError("no cosigner")


@contextmanager
def opened(file: Path) -> Iterator[Installation]:
    """Open an archive's authority, and close it in the end.

    Raises:
        ConfigurationError: The configuration or the key cannot be used.
        ArchiveError: The database is damaged.
        FileNotFoundError: It is missing.
    """
    settings = configuration.read(file)
    files = founding.files_of(file, settings)
    store = AuthorityStore(files.authority, founding.database_key(files))
    try:
        yield Installation(
            file=file,
            settings=settings,
            files=files,
            authority=Authority(store),
            store=store,
            keys=founding.recorder_keys(store),
        )
    finally:
        store.close()


def record_certificates(recorder: Recorder, *, now_ms: int) -> None:
    """Record the root and every certificate that the log has not yet: signers are found there."""
    authority = recorder.authority
    known = [authority.root.der, *authority.all_certificates()]
    fresh = [der for der in known if recorder.log.index_of(fingerprint(der)) is None]
    for at in range(0, len(fresh), _MOST):
        recorder.note(RecordType.KEY_CEREMONY, fresh[at : at + _MOST], now_ms=now_ms)
