"""ts-mls as a process of its own: clients of the other implementation, driven from Python."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from base64 import b64decode, b64encode
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

HERE = Path(__file__).resolve().parent


class TsMlsError(Exception):
    """ts-mls refused; the text is its error's class, then its message."""


def missing() -> str | None:
    """Return what this machine lacks to run ts-mls, or None where nothing is lacking."""
    if node() is None:
        return "Node"
    if not (HERE / "node_modules" / "ts-mls").is_dir():
        return "ts-mls (make interop)"
    return None


def node() -> str | None:
    """Return the path of Node: the environment's own before the machine's."""
    return shutil.which(
        "node", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What one member holds of its group, to be compared with another's."""

    epoch: int
    members: int
    epoch_authenticator: bytes
    tree_hash: bytes
    confirmed_transcript_hash: bytes


class TsMls:
    """One Node process that plays any number of clients, each known by a name."""

    def __init__(self) -> None:
        executable = node()
        assert executable is not None
        self._requests = 0
        self._process = subprocess.Popen(
            [executable, str(HERE / "driver.mjs")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.communicate(timeout=60)

    def call(self, name: str, **parameters: object) -> dict[str, Any]:
        """Return the answer to one request.

        Raises:
            TsMlsError: ts-mls refused.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests += 1
        request = {"id": self._requests, "call": name, **parameters}
        self._process.stdin.write(json.dumps(request, default=_text) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        assert answer["id"] == self._requests
        if "error" in answer:
            raise TsMlsError(f"{answer['error']}: {answer['detail']}")
        result: dict[str, Any] = answer["ok"]
        return result

    def client(self, name: str, *, suite: int) -> Client:
        """Return a new client with a fresh KeyPackage."""
        answer = self.call("key_package", client=name, suite=suite, identity=name.encode())
        return Client(driver=self, name=name, key_package=b64decode(answer["key_package"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """One client of ts-mls. Messages are whole MLSMessages.

    Attributes:
        key_package: Its KeyPackage.
    """

    driver: TsMls
    name: str
    key_package: bytes

    def create(self, group_id: bytes) -> None:
        """Create a group with this client alone."""
        self._call("create", group_id=group_id)

    def commit(
        self, *, add: list[bytes] | None = None, remove: list[int] | None = None
    ) -> tuple[bytes, bytes | None]:
        """Commit and apply; return the Commit and, where somebody is added, the Welcome."""
        answer = self._call("commit", add=[_text(one) for one in add or []], remove=remove or [])
        welcome = answer.get("welcome")
        return b64decode(answer["commit"]), None if welcome is None else b64decode(welcome)

    def join(self, welcome: bytes) -> None:
        """Join by a Welcome that holds the tree."""
        self._call("join", welcome=welcome)

    def external_join(self, group_info: bytes) -> bytes:
        """Join by an external Commit; return it."""
        return b64decode(self._call("external_join", group_info=group_info)["commit"])

    def process(self, message: bytes) -> None:
        """Apply somebody's Commit."""
        assert self._call("process", message=message)["kind"] == "commit"

    def decrypt(self, message: bytes) -> tuple[bytes, bytes]:
        """Return an application message's data and authenticated data."""
        answer = self._call("process", message=message)
        assert answer["kind"] == "application"
        return b64decode(answer["data"]), b64decode(answer["authenticated_data"])

    def encrypt(self, data: bytes, *, authenticated_data: bytes) -> bytes:
        """Return an application message."""
        answer = self._call("encrypt", data=data, authenticated_data=authenticated_data)
        return b64decode(answer["message"])

    def export(self, label: str, *, context: bytes, length: int) -> bytes:
        """Return an exported secret of the present epoch."""
        answer = self._call("export", label=label, context=context, length=length)
        return b64decode(answer["secret"])

    def group_info(self) -> bytes:
        """Return a GroupInfo by which a stranger can join."""
        return b64decode(self._call("group_info")["group_info"])

    def leaf_index(self) -> int:
        """Return the client's own leaf."""
        return int(self._call("status")["leaf_index"])

    def active(self) -> bool:
        """Return False once the client was removed."""
        return bool(self._call("status")["active"])

    def status(self) -> Status:
        """Return what the client holds of its group."""
        answer = self._call("status")
        return Status(
            epoch=answer["epoch"],
            members=answer["members"],
            epoch_authenticator=b64decode(answer["epoch_authenticator"]),
            tree_hash=b64decode(answer["tree_hash"]),
            confirmed_transcript_hash=b64decode(answer["confirmed_transcript_hash"]),
        )

    def _call(self, name: str, **parameters: object) -> dict[str, Any]:
        return self.driver.call(name, client=self.name, **parameters)


def _text(value: object) -> str:
    assert isinstance(value, bytes)
    return b64encode(value).decode("ascii")
