"""``wardline-archive check``: what must hold of this installation, looked at now.

Everything is read and nothing is changed; the archive may run meanwhile.
"""

from __future__ import annotations

import json
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path

from archive import canary, configuration, founding, uploads
from archive.alarms import Alarm
from archive.canary import Canary
from archive.cosigning import Cosigner, check
from archive.errors import ArchiveError, HistoryError
from archive.installation import Installation
from archive.intray import Intray, witnessed
from archive.log import Log
from archive.mirror_link import read_token
from archive.retention import late_buckets
from archive.watch import METRICS_FILE, STATUS_FILE
from crypto.certificate import DAY_MS, decode_certificate
from crypto.checkpoint import Checkpoint
from crypto.note import SignatureType, SignerKey
from protocol.report import Check, Report
from protocol.retention import CLINICAL, Bucket
from storage.files import write_private

PROGRAM = "wardline-archive"

REPORT_KEY = "report.key"
"""File beside the configuration: signs reports, and nothing else."""

CERTIFICATE_LEFT_MS = 30 * DAY_MS
"""Life that the recorder's certificate must have left, in ms: it is renewed from half its life on,
so that less means that it was not."""

HOUR_MS = 3600 * 1000

MORE_OFFICERS = 2
"""Officers with keys beyond the quorum, below which nothing new is sealed."""


def report_key(folder: Path) -> SignerKey:
    """Return the key by which reports are signed, made where there is none yet.

    Raises:
        DecodeError: The file holds none.
        OSError: It cannot be read or written.
    """
    path = folder / REPORT_KEY
    if not path.exists():
        key = SignerKey.generate(PROGRAM, SignatureType.ED25519)
        write_private(path, key.encode().encode())
    return SignerKey.decode(path.read_text())


def report(archive: Installation, *, now_ms: int) -> Report:
    """Return what was found of an installation."""
    groups: tuple[Callable[[Installation, int], Iterator[Check]], ...] = (
        _quorum,
        _files,
        _log,
        _certificate,
        _index,
        _mirror,
        _machine,
        _disk,
    )
    checks = tuple(check for group in groups for check in group(archive, now_ms))
    return Report(program=PROGRAM, at_ms=now_ms, checks=checks)


def _quorum(archive: Installation, _now_ms: int) -> Iterator[Check]:
    quorum = archive.settings.quorum
    yield Check(name="quorum", holds=True, found=f"{quorum.k} of {len(quorum.officers)}")


def _files(archive: Installation, _now_ms: int) -> Iterator[Check]:
    told = {STATUS_FILE, METRICS_FILE}
    paths = [archive.data, archive.files.key, archive.files.log.head, *archive.data.rglob("*")]
    rights = stat.S_IRWXG | stat.S_IRWXO
    open_ = [path for path in paths if path.lstat().st_mode & rights and path.name not in told]
    yield Check(
        name="files are their owner's alone",
        holds=not open_,
        found=f"{len(paths)} files, {len(open_)} open to others",
    )


def _log(archive: Installation, now_ms: int) -> Iterator[Check]:
    signer = founding.log_signer(archive.store)
    same = founding.log_key(archive.file) == signer.verifier
    yield Check(name="log key", holds=same, found=signer.verifier.encode())
    witnesses = founding.witness_keys(archive.file)
    known = ", ".join(key.encode() for key in witnesses) or "none is pinned yet"
    yield Check(name="witness", holds=bool(witnesses), found=known)
    # Before the log is opened, as both may grow meanwhile.
    held = list(archive.cosigners().held(archive.authority.trust, signer.verifier))
    try:
        with closing(archive.open_log(witnesses[0] if witnesses else signer.verifier)) as log:
            note = witnessed(log.store)
            under = 0 if note is None else Checkpoint.decode(note.text).size
            found = f"continues what was signed, {log.size} records, {under} witnessed"
            more = (_officers(held, log, now_ms), _ended(log, now_ms))
        yield Check(name="log", holds=True, found=found)
        yield from more
        with archive.desk():
            pass
        yield Check(name="desk", holds=True, found="readable")
    except ArchiveError as error:
        yield Check(name="databases", holds=False, found=type(error).__name__)


def _ended(log: Log, now_ms: int) -> Check:
    """See that nothing is kept beyond its end, but for what a hold covers, shared anew."""
    late = ", ".join(bucket.name.decode() for bucket in late_buckets(log, now_ms=now_ms))
    found = f"{late} is kept: what a hold covers waits for `review reshare --bucket held`"
    return Check(name="ended buckets", holds=not late, found=found if late else "none is kept")


def _officers(held: Iterable[tuple[Cosigner, Checkpoint]], log: Log, now_ms: int) -> Check:
    """See that the log continues what officers' devices have cosigned, and how old that is."""
    found, holds = [], True
    for known, one in held:
        hours = max(0, now_ms - known.at_ms) // HOUR_MS
        found.append(f"{one.size} of {log.size} records {hours} h ago")
        try:
            check(one, log)
        except HistoryError:
            found[-1] += ", another history"
            holds = False
    told = "; ".join(found) or "none has cosigned yet"
    return Check(name="officers' devices", holds=holds, found=told)


def _certificate(archive: Installation, now_ms: int) -> Iterator[Check]:
    known = decode_certificate(archive.certificate(), root=archive.authority.root)
    left_ms = known.not_after_ms - now_ms
    yield Check(
        name="recorder's certificate",
        holds=left_ms > CERTIFICATE_LEFT_MS,
        found=f"{left_ms // DAY_MS} days left",
    )


def _index(archive: Installation, now_ms: int) -> Iterator[Check]:
    """What the log's tables tell: officers' keys, attachments."""
    quorum = archive.settings.quorum
    bucket = Bucket.at(CLINICAL, now_ms).name
    with closing(Intray(archive.files.log.log, founding.database_key(archive.files))) as intray:
        rows = intray.store.rows("SELECT officer FROM officer_key WHERE bucket=?", bucket)
        lacking = uploads.missing(intray.store, archive.data / uploads.FOLDER)
        one = canary.known(intray.store)
    ready = {row[0] for row in rows} & set(quorum.officers)
    yield Check(
        name="officers with keys of this quarter",
        holds=len(ready) >= quorum.k + MORE_OFFICERS,
        found=f"{len(ready)} of {len(quorum.officers)}",
    )
    yield Check(name="attachments", holds=not lacking, found=f"{len(lacking)} are missing")
    right = one is None or one.is_right
    yield Check(name="canary", holds=right, found=_told_canary(one, now_ms))


def _told_canary(one: Canary | None, now_ms: int) -> str:
    """Return when the last canary was opened, and what became of it."""
    if one is None or not one.opened_ms:
        return "none was opened yet"
    outcome = "right" if one.is_right else "not what was written"
    return f"opened {(now_ms - one.opened_ms) // DAY_MS} days ago, {outcome}"


def _mirror(archive: Installation, _now_ms: int) -> Iterator[Check]:
    if not archive.settings.mirror:
        yield Check(name="mirror", holds=True, found="none is configured")
        return
    folder = configuration.resolve(archive.file, archive.settings.mirror)
    key = founding.database_key(archive.files)
    try:
        with closing(Intray(folder / founding.LOG_FILE, key)) as copy:
            found = f"{copy.store.size()} records"
        yield Check(name="mirror", holds=True, found=found)
    except (ArchiveError, FileNotFoundError) as error:
        yield Check(name="mirror", holds=False, found=type(error).__name__)


def _machine(archive: Installation, _now_ms: int) -> Iterator[Check]:
    """The mirror on another machine: what can be known of it from here."""
    host = archive.settings.mirror_host
    if host is None:
        return
    try:
        read_token(configuration.resolve(archive.file, host.token_file))
        told = json.loads((archive.data / STATUS_FILE).read_text())
        yield Check(
            name="mirror's machine",
            holds=Alarm.MIRROR.name not in told["alarms"],
            found=f"{told['mirrored']} records confirmed",
        )
    except (configuration.ConfigurationError, OSError, ValueError, KeyError) as error:
        yield Check(name="mirror's machine", holds=False, found=type(error).__name__)


def _disk(archive: Installation, _now_ms: int) -> Iterator[Check]:
    free = shutil.disk_usage(archive.data).free
    enough = free >= archive.settings.alarms.free_bytes
    yield Check(name="disk", holds=enough, found=f"{free // 1_000_000} MB free")
