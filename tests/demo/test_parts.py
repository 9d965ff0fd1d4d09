"""The demo's dialogues and its table: what is not so ends it as a failure."""

from __future__ import annotations

import io
import tarfile
from itertools import islice
from pathlib import Path

import pytest

from demo.dialogues import OWN, TURN_CHARACTERS, DialogueError, find
from demo.opening import unpack
from demo.programs import DemoError
from demo.stage import Stage


def test_turns_of_a_file_are_read_without_the_speakers_names(tmp_path: Path) -> None:
    file = tmp_path / "talk.csv"
    file.write_text('ID,dialogue\n0,"Doctor: Hello. \nPatient: Hi: there."\n1,\n')
    source = find(file)
    assert source.name == "talk.csv"
    assert list(islice(source.turns(), 3)) == ["Hello.", "Hi: there.", "Hello."]


def test_a_turn_that_is_too_long_is_cut(tmp_path: Path) -> None:
    file = tmp_path / "talk.csv"
    file.write_text(f"dialogue\nDoctor: {'x' * 5000}\n")
    assert len(next(find(file).turns())) == TURN_CHARACTERS


@pytest.mark.parametrize("content", ["", "words\nx\n", "dialogue\n\n", None])
def test_a_file_without_dialogues_is_said_so(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "talk.csv"
    if content is not None:
        file.write_text(content)
    with pytest.raises(DialogueError):
        find(file)


def test_without_any_file_the_night_has_words_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WARDLINE_SHARED", str(tmp_path))
    assert next(find(None).turns()) == OWN[0][0]


def test_one_claim_that_is_not_so_fails_the_night(capsys: pytest.CaptureFixture[str]) -> None:
    stage = Stage()
    stage.claim("it holds", found="1", holds=True)
    assert stage.close()
    stage.claim("it does not", found="0", holds=False)
    assert not stage.close()
    assert "NO   it does not" in capsys.readouterr().out


def packed(name: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.size = 4
        tar.addfile(member, io.BytesIO(b"text"))
    return out.getvalue()


def test_an_export_is_unpacked_into_its_folder(tmp_path: Path) -> None:
    unpack(packed("export/a/b.txt"), tmp_path / "here")
    assert (tmp_path / "here/export/a/b.txt").read_text() == "text"


@pytest.mark.parametrize("name", ["../out.txt", "a/../../out.txt", "/tmp/out-of-the-export.txt"])
def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DemoError):
        unpack(packed(name), tmp_path / "here")
    assert list(tmp_path.rglob("out*")) == []
