"""The bill of materials of what the programs run with, CycloneDX 1.5 as JSON, from the lock file.

``python -m release.sbom`` prints it. The same lock file gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tomllib
import uuid
from typing import Any

from release.lock import ROOT, RUNNING, Locked, read


def bill() -> dict[str, Any]:
    """Return the bill of materials.

    Source: CycloneDX 1.5, JSON reference.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    own = f"pkg:pypi/{project['name']}@{project['version']}"
    locked = read(RUNNING)
    digest = hashlib.sha256(RUNNING.read_bytes() + own.encode()).digest()
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        # Of the content, so that an unchanged release has an unchanged bill.
        "serialNumber": f"urn:uuid:{uuid.UUID(bytes=digest[:16], version=4)}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": own,
                "name": project["name"],
                "version": project["version"],
                "description": project["description"],
                "purl": own,
            }
        },
        "components": [_component(one) for one in locked],
        "dependencies": [{"ref": own, "dependsOn": [_purl(one) for one in locked]}],
    }


def _component(one: Locked) -> dict[str, Any]:
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": _purl(one),
        "name": one.name,
        "version": one.version,
        "purl": _purl(one),
        "hashes": [{"alg": "SHA-256", "content": content} for content in one.hashes],
    }
    if one.marker:
        component["properties"] = [{"name": "wardline:installed-where", "value": one.marker}]
    return component


def _purl(one: Locked) -> str:
    return f"pkg:pypi/{one.name}@{one.version}"


def main() -> None:
    """Print the bill."""
    sys.stdout.write(json.dumps(bill(), indent=2) + "\n")


if __name__ == "__main__":
    main()
