"""Exports: they verify with one file and PyNaCl alone, and no byte of them can be changed."""

from __future__ import annotations

import importlib.util
import random
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import nacl
import pyrage
import pytest

from archive import intray
from archive.errors import NotWitnessedError
from archive.export import VERIFIER, Exporter, manifest_of, seal, verifier_hash
from archive.opening_session import Review
from archive.proving import Trusted
from archive.record import RecordType
from crypto.attachment import AttachmentSealer
from crypto.errors import InvalidError
from demo.opening import unpack
from protocol.content import Attachment
from tests.archive.officers import CLINIC, NAMES, WARD, Archive, text
from tests.depth import DEPTH

CANARY = "canary-of-the-ward-0451"
FLIPS = 500 * DEPTH
"""Single-byte changes tried of the larger export."""

LINES = 30 * DEPTH
"""Messages of the larger export."""

PHOTO = b"a wound, seen from above " * 40


def load_verifier() -> ModuleType:
    spec = importlib.util.spec_from_file_location("wardline_verify", VERIFIER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["wardline_verify"] = module
    spec.loader.exec_module(module)
    return module


VERIFY = load_verifier()


@contextmanager
def exporting(archive: Archive, request: bytes) -> Iterator[Exporter]:
    handing = archive.handing_out()
    permit = handing.permit(request, now_ms=archive.now_ms)
    number = handing.announce(permit, verifier=verifier_hash())
    archive.take_up()
    archive.witness()
    with archive.worker_over(permit, number) as worker:
        yield Exporter(
            Review(worker, archive.log.store, request=request, clock=lambda: archive.now_ms),
            archive.log.store,
            handing,
            permit=permit,
            announced=number,
            trusted=Trusted(root=archive.root, policy=archive.policy),
            attachments=archive.uploads.get,
        )


def exported(archive: Archive, request: bytes, recipient: str) -> dict[str, bytes]:
    with exporting(archive, request) as exporter:
        draft = exporter.prepare(recipient, now_ms=archive.now_ms)
        with pytest.raises(NotWitnessedError):
            exporter.finish(draft)
        archive.take_up()
        archive.witness()
        return exporter.finish(draft)


@pytest.fixture(scope="module")
def identity() -> pyrage.x25519.Identity:
    return pyrage.x25519.Identity.generate()


@pytest.fixture(scope="module")
def files(
    tmp_path_factory: pytest.TempPathFactory, identity: pyrage.x25519.Identity
) -> dict[str, bytes]:
    """A small export: a talk in two epochs, with a picture and a message that is no content."""
    archive = Archive(tmp_path_factory.mktemp("archive"))
    archive.begin()
    ward = archive.talk(WARD)
    archive.talk(CLINIC)
    archive.say(ward, text(f"bp 90/60\n{CANARY}"))
    archive.say(ward, text("Grüße, 10 µg"), who="listener")
    archive.rekey(ward)
    archive.say(ward, picture(archive))
    archive.say(ward, b"")
    archive.tick()
    request = archive.opened(archive.scope(WARD))
    made = exported(archive, request, str(identity.to_public()))
    archive.close()
    return made


@pytest.fixture(scope="module")
def larger(
    tmp_path_factory: pytest.TempPathFactory, identity: pyrage.x25519.Identity
) -> dict[str, bytes]:
    """An export of a talk in several epochs."""
    archive = Archive(tmp_path_factory.mktemp("archive"))
    archive.begin()
    ward = archive.talk(WARD)
    for number in range(LINES):
        if number % 100 == 99:
            archive.rekey(ward)
        archive.say(ward, text(f"number {number}, all is well " * 4))
    archive.tick()
    request = archive.opened(archive.scope(WARD))
    made = exported(archive, request, str(identity.to_public()))
    archive.close()
    return made


def picture(archive: Archive) -> Attachment:
    sealer = AttachmentSealer()
    archive.uploads["upload-1"] = [b"".join(sealer.seal([PHOTO]))]
    return Attachment(
        blob="upload-1",
        ref=sealer.ref.encode(),
        name="wound.jpg",
        media_type="image/jpeg",
        caption="left foot",
    )


def test_the_export_is_of_every_kind_of_file(files: dict[str, bytes]) -> None:
    assert sum(map(len, files.values())) > 50_000
    assert {name.partition("/")[0] for name in files} >= {"certificates", "attachments"}


def written(files: dict[str, bytes], folder: Path) -> Path:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def test_an_export_tells_what_was_said_and_verifies(
    files: dict[str, bytes], tmp_path: Path
) -> None:
    told = VERIFY.verify(written(files, tmp_path))
    assert "4 messages are what their senders signed" in told
    assert "verify.py is the one that the archive recorded" in told
    assert f"approved by {', '.join(sorted(NAMES[:3]))}" in told
    transcript = files["transcript.txt"].decode()
    assert f"alice/phone  text\n    bp 90/60\n    {CANARY}" in transcript
    assert "bob/desk  text\n    Grüße, 10 µg" in transcript
    assert "[signed, but no content of a known form]" in transcript
    assert files["transcript.pdf"].startswith(b"%PDF-")
    (attached,) = [data for name, data in files.items() if name.startswith("attachments/")]
    assert attached == PHOTO


def test_the_verifier_runs_with_pynacl_alone(files: dict[str, bytes], tmp_path: Path) -> None:
    folder = written(files, tmp_path / "export")
    site = tmp_path / "site"
    site.mkdir()
    packages = Path(nacl.__file__).parents[1]
    for pattern in ("nacl", "cffi", "_cffi_backend*", "pycparser"):
        for path in packages.glob(pattern):
            (site / path.name).symlink_to(path)
    program = (
        f"import sys, runpy; sys.path.append({str(site)!r}); sys.argv = ['verify.py']; "
        "runpy.run_path('verify.py', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.endswith("VERIFIED\n"), done.stdout + done.stderr


def test_a_given_trust_counts_more_than_the_exports_own(
    files: dict[str, bytes], tmp_path: Path
) -> None:
    folder = written(files, tmp_path)
    trust = dict(line.split(" ", 1) for line in files["trust.txt"].decode().splitlines())
    assert VERIFY.verify(folder, **trust)
    other = dict(trust, organisation=secrets.token_hex(32))
    with pytest.raises(VERIFY.RefusedError):
        VERIFY.verify(folder, **other)
    assert VERIFY.main([str(folder), "--organisation", "xyz"]) == 1
    assert VERIFY.main([str(folder)]) == 0


def manifest_lines(files: dict[str, bytes]) -> dict[str, tuple[str, str]]:
    lines = files["manifest.txt"].decode().splitlines()[1:]
    return {name: (hash_, size) for hash_, size, name in (line.split(" ", 2) for line in lines)}


def test_every_changed_byte_of_every_file_in_the_manifest_is_refused(
    files: dict[str, bytes],
) -> None:
    named = manifest_lines(files)
    assert set(named) == set(files) - {"manifest.txt", "manifest.proof", "verify.py"}
    for name, (hash_, size) in named.items():
        data = bytearray(files[name])
        VERIFY.verify_file(bytes(data), hash_, size, name)
        for at in range(len(data)):
            data[at] ^= 1 << at % 8
            with pytest.raises(VERIFY.RefusedError):
                VERIFY.verify_file(bytes(data), hash_, size, name)
            data[at] ^= 1 << at % 8


def test_changed_bytes_of_any_file_on_the_disk_are_refused(
    larger: dict[str, bytes], memory: Path
) -> None:
    folder = written(larger, memory)
    chance = random.Random(1)
    names = sorted(set(larger) - {"verify.py"})
    for number in range(FLIPS):
        name = names[number % len(names)]
        data = bytearray(larger[name])
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        (folder / name).write_bytes(data)
        assert VERIFY.main([str(folder)]) == 1, name
        (folder / name).write_bytes(larger[name])
    assert VERIFY.main([str(folder)]) == 0


@pytest.mark.parametrize("name", ["manifest.txt", "manifest.proof"])
def test_every_changed_byte_of_the_manifest_and_its_proof_is_refused(
    files: dict[str, bytes], tmp_path: Path, name: str
) -> None:
    folder = written(files, tmp_path)
    whole = files[name]
    for at in range(len(whole)):
        data = bytearray(whole)
        data[at] ^= 1
        (folder / name).write_bytes(data)
        assert VERIFY.main([str(folder)]) == 1, at


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "transcript.pdf").unlink(),
        lambda folder: (folder / "more.txt").write_text("more"),
        lambda folder: (folder / "manifest.proof").unlink(),
        lambda folder: (folder / "records.jsonl").write_text(""),
        lambda folder: shutil.rmtree(folder / "certificates"),
    ],
)
def test_what_is_missing_or_added_is_refused(
    files: dict[str, bytes], tmp_path: Path, change: object
) -> None:
    folder = written(files, tmp_path)
    change(folder)  # type: ignore[operator]
    assert VERIFY.main([str(folder)]) == 1


def test_another_verifier_is_told_of(files: dict[str, bytes], tmp_path: Path) -> None:
    folder = written(dict(files, **{"verify.py": b"print('VERIFIED')\n"}), tmp_path)
    assert "NOTE: verify.py is not the one that the archive recorded" in VERIFY.verify(folder)


def test_a_forged_transcript_under_a_manifest_of_its_own_is_refused(
    files: dict[str, bytes], tmp_path: Path
) -> None:
    """Whoever makes manifest and hashes anew still lacks the log's record of them."""
    forged = dict(files)
    for name in ("transcript.txt", "transcript.jsonl"):
        forged[name] = files[name].replace(b"90/60", b"190/60")
        assert forged[name] != files[name]
    inside = {name: forged[name] for name in manifest_lines(files)}
    forged["manifest.txt"] = manifest_of(inside)
    assert VERIFY.main([str(written(forged, tmp_path))]) == 1


def test_an_export_leaves_sealed_to_its_recipient_alone(
    files: dict[str, bytes], identity: pyrage.x25519.Identity, tmp_path: Path
) -> None:
    sealed = seal(files, str(identity.to_public()))
    assert CANARY.encode() not in sealed
    with pytest.raises(pyrage.DecryptError):
        pyrage.decrypt(sealed, [pyrage.x25519.Identity.generate()])
    packed = pyrage.decrypt(sealed, [identity])
    unpack(packed, tmp_path)
    assert VERIFY.main([str(tmp_path / "wardline-export")]) == 0
    with pytest.raises(InvalidError):
        seal(files, "age1nobody")


def test_an_export_is_a_record(tmp_path: Path, identity: pyrage.x25519.Identity) -> None:
    archive = Archive(tmp_path)
    archive.begin()
    archive.say(archive.talk(WARD), text("once"))
    archive.tick()
    request = archive.opened(archive.scope(WARD))
    exported(archive, request, str(identity.to_public()))
    kinds = [archive.log.read(index).type for index in range(archive.log.size)]
    assert kinds.count(RecordType.EXPORT) == 1
    assert RecordType.VIEW in kinds
    assert intray.waiting(archive.log.store, most=10) == []
    archive.close()


def test_no_file_of_the_archive_holds_the_exports_text(
    tmp_path: Path, identity: pyrage.x25519.Identity
) -> None:
    archive = Archive(tmp_path)
    archive.begin()
    archive.say(archive.talk(WARD), text(CANARY))
    archive.tick()
    exported(archive, archive.opened(archive.scope(WARD)), str(identity.to_public()))
    archive.close()
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert CANARY.encode() not in path.read_bytes(), path.name
    assert any(tmp_path.iterdir())
