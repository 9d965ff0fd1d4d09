"""The lock files as data, the bill of materials, and the audit that needs no network."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from release import audit, sbom
from release.lock import DEVELOPING, RUNNING, LockError, normalised, read

HASH = "a" * 64


def locked(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "requirements.lock"
    path.write_text(text)
    return path


def test_every_package_of_both_lock_files_is_pinned_by_hash() -> None:
    for path in (RUNNING, DEVELOPING):
        packages = read(path)
        assert len(packages) == path.read_text().count("==") - path.read_text().count(" == ")
        assert all(one.hashes for one in packages)


def test_a_package_is_read_with_version_marker_and_hashes(tmp_path: Path) -> None:
    hashes = f"    --hash=sha256:{HASH} \\\n    --hash=sha256:{HASH}\n"
    (one,) = read(locked(tmp_path, f"a.B_c[d]==1.0 ; sys_platform == 'win32' \\\n{hashes}"))
    assert (one.name, one.version, one.marker) == ("a-b-c", "1.0", "sys_platform == 'win32'")
    assert one.hashes == (HASH, HASH)


@pytest.mark.parametrize(
    "text",
    [
        "a==1.0\n",
        f"a>=1.0 \\\n    --hash=sha256:{HASH}\n",
        f"a==1.0 \\\n    --hash=md5:{HASH}\n",
        f"    --hash=sha256:{HASH}\n",
        f"--no-binary :all:\na==1.0 \\\n    --hash=sha256:{HASH}\n",
    ],
)
def test_what_is_not_pinned_by_hash_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(LockError):
        read(locked(tmp_path, text))


def test_the_bill_names_every_package_that_runs_once_and_is_the_same_each_time() -> None:
    bill = sbom.bill()
    refs = [component["bom-ref"] for component in bill["components"]]
    assert len(refs) == len(set(refs)) == len(read(RUNNING))
    assert bill["dependencies"][0]["dependsOn"] == refs
    assert json.dumps(bill) == json.dumps(sbom.bill())
    names = {component["name"] for component in bill["components"]}
    assert audit.asked() <= names
    assert "pytest" not in names


def test_what_runs_is_what_is_tested() -> None:
    assert list(audit.lock_findings(read(RUNNING), read(DEVELOPING))) == []


def test_a_package_that_runs_in_another_version_or_is_missing_is_found() -> None:
    running, developing = read(RUNNING), read(DEVELOPING)
    without = [one for one in running if one.name != "msgspec"]
    assert [one.package for one in audit.lock_findings(without, developing)] == ["msgspec"]
    untested = [one for one in developing if one.name != "pynacl"]
    assert [one.package for one in audit.lock_findings(running, untested)] == ["pynacl"]


ADVISORY = {
    "id": "PYSEC-1",
    "affected": [{"package": {"ecosystem": "PyPI", "name": "Py_NaCl"}, "versions": ["1.0"]}],
}


@pytest.mark.parametrize("zipped", [False, True])
def test_an_advisory_of_a_locked_version_is_found(tmp_path: Path, zipped: bool) -> None:
    here = locked(tmp_path, f"py-nacl==1.0 \\\n    --hash=sha256:{HASH}\n")
    folder = tmp_path / "advisories"
    folder.mkdir()
    withdrawn = {**ADVISORY, "id": "PYSEC-2", "withdrawn": "2026-01-01T00:00:00Z"}
    for name, advisory in (("1.json", ADVISORY), ("2.json", withdrawn)):
        (folder / name).write_text(json.dumps(advisory))
    source = folder
    if zipped:
        source = tmp_path / "all.zip"
        with zipfile.ZipFile(source, "w") as archive:
            for file in folder.iterdir():
                archive.write(file, file.name)
    found = list(audit.advisory_findings(read(here), audit.advisories(source)))
    assert [(one.package, one.what) for one in found] == [("py-nacl", "1.0: PYSEC-1")]


def test_another_version_ecosystem_or_package_is_not_found(tmp_path: Path) -> None:
    here = locked(tmp_path, f"py-nacl==1.1 \\\n    --hash=sha256:{HASH}\n")
    other = {
        "id": "GO-1",
        "affected": [{"package": {"ecosystem": "Go", "name": "py-nacl"}, "versions": ["1.1"]}],
    }
    assert list(audit.advisory_findings(read(here), iter([ADVISORY, other]))) == []


def test_names_are_compared_as_registries_do() -> None:
    assert normalised("A.b__C-d") == "a-b-c-d"
