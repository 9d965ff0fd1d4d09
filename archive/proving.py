"""Records with what shows that they are in the log, for whoever asks neither relay nor archive."""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from archive import intray
from archive.errors import DamagedError, NotWitnessedError
from archive.scope import body_at
from archive.store import Store
from client.officer_book import LogPolicy
from crypto.certificate import Root
from crypto.checkpoint import Checkpoint
from crypto.note import Note, VerifierKey, signatures_of
from crypto.tiles import TiledTree

VERIFIERS = Path(__file__).parent / "verifier"
"""Where the programs lie that verify what leaves the archive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trusted:
    """Whom a reader of a proof is to believe.

    Attributes:
        root: The organisation's.
        policy: The log's and its witnesses' keys.
    """

    root: Root
    policy: LogPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class Proving:
    """Puts records of one log together with their proofs.

    Attributes:
        store: The log's database.
        trusted: Whom a reader is to believe.
    """

    store: Store = field(repr=False)
    trusted: Trusted

    def witnessed(self) -> Note:
        """Return the last checkpoint that was cosigned.

        Raises:
            NotWitnessedError: None was.
        """
        note = intray.witnessed(self.store)
        if note is None:
            raise NotWitnessedError
        return note

    def tree(self, note: Note) -> TiledTree:
        """Return the tree of a checkpoint."""
        size = Checkpoint.decode(note.text).size
        return TiledTree(size=size, source=cache(self.store.tile))

    def entry(self, index: int, tree: TiledTree) -> dict[str, Any]:
        """Return a record with what shows that it is in the log and commits to its body.

        Raises:
            DamagedError: It has no body.
            NotWitnessedError: The tree does not reach it.
        """
        found = body_at(self.store, index)
        if found is None:
            raise DamagedError("body")
        if index >= tree.size:
            raise NotWitnessedError
        record, salt, body = found
        return {
            "record": record.hex(),
            "salt": salt.hex(),
            "body": base64_of(body),
            "proof": [base64_of(one) for one in tree.inclusion_proof(index)],
        }

    def certificate(self, name: bytes) -> bytes:
        """Return a recorded certificate by its fingerprint.

        Raises:
            DamagedError: It is not recorded.
        """
        index = self.store.seen([name]).get(name)
        found = None if index is None else body_at(self.store, index)
        if found is None:
            raise DamagedError("certificate")
        return found[2]

    def trust(self) -> dict[str, str]:
        """Return the three values that a reader compares with what they know."""
        return {
            "organisation": self.trusted.root.organisation.hex(),
            "log": self.trusted.policy.log.encode(),
            "witness": self._witness().encode(),
        }

    def note(self, note: Note) -> str:
        """Return a checkpoint with the signatures of the log and of one witness alone."""
        keys = (self.trusted.policy.log, self._witness())
        named = {(key.name, key.key_id) for key in keys}
        lines = [one for one in note.signatures if (one.name, one.key_id) in named]
        newest = {(one.name, one.key_id): one for one in lines}
        return Note(text=note.text, signatures=tuple(newest.values())).encode().decode()

    def _witness(self) -> VerifierKey:
        """Return the witness that has cosigned the present checkpoint."""
        note = self.witnessed()
        for key in self.trusted.policy.witnesses:
            if signatures_of(note, key):
                return key
        raise NotWitnessedError


def base64_of(data: bytes) -> str:
    """Return bytes as canonical Base64."""
    return b64encode(data).decode()


def write_json(value: object) -> str:
    """Return a value as proofs write it, in one way only."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
