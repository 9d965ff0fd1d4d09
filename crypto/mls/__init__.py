"""Messaging Layer Security (RFC 9420): the names that a user of the package meets.

They are loaded when they are first asked for, so that a program which may import the wire structs
(``crypto.mls.framing``) does not thereby load what decrypts.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crypto.mls.group import (
        ApplicationMessage,
        Group,
        OwnMessage,
        ReceivedProposal,
        StagedCommit,
    )
    from crypto.mls.key_package import KeyPackage
    from crypto.mls.key_package_secrets import KeyPackageSecrets
    from crypto.mls.leaf_node import Capabilities, Credential, LeafContent
    from crypto.mls.proposal import Add, Remove

_HOMES = {
    "Add": "proposal",
    "ApplicationMessage": "group",
    "Capabilities": "leaf_node",
    "Credential": "leaf_node",
    "Group": "group",
    "KeyPackage": "key_package",
    "KeyPackageSecrets": "key_package_secrets",
    "LeafContent": "leaf_node",
    "OwnMessage": "group",
    "ReceivedProposal": "group",
    "Remove": "proposal",
    "StagedCommit": "group",
}

__all__ = [
    "Add",
    "ApplicationMessage",
    "Capabilities",
    "Credential",
    "Group",
    "KeyPackage",
    "KeyPackageSecrets",
    "LeafContent",
    "OwnMessage",
    "ReceivedProposal",
    "Remove",
    "StagedCommit",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(name)
    return getattr(import_module(f"crypto.mls.{_HOMES[name]}"), name)
