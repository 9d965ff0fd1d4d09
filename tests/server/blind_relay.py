"""Carries a conversation in a process that refuses to import whatever decrypts; run as a script."""

from __future__ import annotations

import asyncio
import importlib
import sys
import tempfile
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

REFUSED = (
    "crypto.hpke",
    "crypto.sealing",
    "crypto.attachment",
    "crypto.mls.group",
    "crypto.mls.key_schedule",
    "crypto.mls.secret_tree",
    "crypto.mls.protection",
    "crypto.mls.treekem",
)


def refused(module: str) -> bool:
    """Tell whether a module is one that decrypts, or a part of one."""
    return any(module == name or module.startswith(f"{name}.") for name in REFUSED)


class Refuser(MetaPathFinder):
    """Refuses modules by name."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Refuse, or leave the module to others."""
        if refused(fullname):
            raise ImportError(f"{fullname} can decrypt")
        return None


async def carry() -> None:
    """Send a message through a relay to two members."""
    from protocol import frames  # noqa: PLC0415 - after the refusal is in place
    from tests.server import harness  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        async with harness.running(Path(folder), harness.hospital()) as site:
            (ann, bob, recorder), conversation = await site.meeting("ann/phone", "bob/phone")
            await ann.send(harness.message(ann, conversation, epoch=1, body=b"sealed as ever"))
            await ann.expect(frames.Accepted)
            for client in (bob, recorder):
                await client.expect(frames.Deliver, lambda e: e.body.endswith(b"sealed as ever"))


if __name__ == "__main__":
    sys.meta_path.insert(0, Refuser())
    asyncio.run(carry())
    importlib.import_module("server.program")
    loaded = [name for name in sys.modules if refused(name)]
    sys.exit(1 if loaded else 0)
