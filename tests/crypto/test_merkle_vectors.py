"""The public Merkle proofs of transparency-dev/merkle, good and bad."""

from __future__ import annotations

import json
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest

from crypto import merkle
from crypto.errors import VerificationError
from tests.shared import shared

FILES = {"inclusion": 98, "consistency": 98, "subtreeinclusion": 204, "subtreeconsistency": 118}


def verify(kind: str, case: dict[str, Any]) -> None:
    """Run one vector; raises where it is refused."""
    proof = [b64decode(value) for value in case["proof"] or ()]
    if kind == "inclusion":
        merkle.verify_inclusion(
            proof,
            leaf=b64decode(case["leafHash"]),
            index=case["leafIdx"],
            size=case["treeSize"],
            root=b64decode(case["root"]),
        )
    elif kind == "subtreeinclusion":
        merkle.verify_subtree_inclusion(
            proof,
            leaf=b64decode(case["leafHash"]),
            index=case["leafIdx"],
            start=case["start"],
            end=case["end"],
            root=b64decode(case["root"]),
        )
    elif kind == "consistency":
        merkle.verify_consistency(
            proof,
            old_size=case["size1"],
            old_root=b64decode(case["root1"]),
            size=case["size2"],
            root=b64decode(case["root2"]),
        )
    else:
        merkle.verify_subtree_consistency(
            proof,
            start=case["start"],
            end=case["end"],
            subtree_root=b64decode(case["root1"]),
            size=case["size"],
            root=b64decode(case["root2"]),
        )


def refused(kind: str, path: Path) -> bool:
    try:
        verify(kind, json.loads(path.read_text()))
    except VerificationError:
        return True
    return False


@pytest.mark.parametrize("kind", FILES)
def test_every_public_proof_is_accepted_or_refused_as_its_authors_say(kind: str) -> None:
    paths = sorted((shared("merkle-vectors") / kind).rglob("*.json"))
    assert len(paths) == FILES[kind]
    wrong = [p for p in paths if refused(kind, p) != json.loads(p.read_text())["wantErr"]]
    assert wrong == []
