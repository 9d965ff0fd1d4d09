"""The document on identity says what the code does."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

from crypto import certificate, enrolment, invitation, names, proof, statement
from crypto.names import AUTHORITY_ROLES, QUORUM_ROLES, Role
from crypto.statement import PURPOSE_ROLES, RULES, Purpose, StatementType

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "protocol-identity.md").read_text()
MINUTE_MS = 60 * 1000


def table(*header: str) -> list[tuple[str, ...]]:
    """Return the rows of the table with that header."""
    lines = iter(DOCUMENT.splitlines())
    wanted = "| " + " | ".join(header) + " |"
    assert DOCUMENT.count(wanted) == 1
    next(line for line in lines if line == wanted)
    next(lines)
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append(tuple(cell.strip() for cell in line.strip("|").split("|")))
    return rows


def test_the_documents_statement_types_are_the_codes() -> None:
    listed = {
        (int(code), name, signers, int(life) * MINUTE_MS)
        for code, name, signers, life in table("code", "type", "signers", "life")
    }
    assert listed == {
        (
            kind.value,
            kind.name,
            " or ".join(" + ".join(purpose.name for purpose in form) for form in rule.forms),
            rule.lifetime_ms,
        )
        for kind, rule in RULES.items()
    }
    assert len(listed) == len(StatementType)


def test_the_documents_purposes_are_the_codes() -> None:
    keys = {Purpose.AUTHORITY: "root", Purpose.CONNECTION: "connection key"}
    assert table("code", "purpose", "key", "role") == [
        (
            str(purpose.value),
            purpose.name,
            keys.get(purpose, "signature key"),
            PURPOSE_ROLES[purpose].name if purpose in PURPOSE_ROLES else "",
        )
        for purpose in Purpose
    ]


def granted_by(role: Role) -> str:
    if role in AUTHORITY_ROLES:
        return "the authority"
    return "two administrators" if role in QUORUM_ROLES else "one administrator"


def test_the_documents_roles_are_the_codes() -> None:
    assert table("code", "role", "granted by") == [
        (str(role.value), role.name, granted_by(role)) for role in Role
    ]


def test_the_documents_extensions_are_the_codes() -> None:
    assert table("extension", "OID") == [
        ("device", f"`{certificate.DEVICE_OID}`"),
        ("proof", f"`{certificate.PROOF_OID}`"),
    ]
    assert f"The arc `{certificate.ARC}`" in DOCUMENT


def test_the_documents_labels_are_the_codes() -> None:
    labels = (statement.STATEMENT_LABEL, enrolment.REQUEST_LABEL, proof.BINDING_LABEL)
    assert [row[0] for row in table("label", "content")] == [
        f"`{label.decode()}`" for label in labels
    ]


def test_the_documents_names_and_limits_are_the_codes() -> None:
    forms = {row[0]: row[1].strip("`") for row in table("name", "form", "meaning")}
    assert (forms["user"], forms["device"]) == (names._USER.pattern, names._DEVICE.pattern)
    days = re.search(r"at most (\d+) days, renewed from day (\d+)", DOCUMENT)
    assert days is not None
    assert int(days[1]) * certificate.DAY_MS == certificate.LIFETIME_MS
    assert int(days[2]) * certificate.DAY_MS == certificate.RENEWAL_MS
    assert enrolment.REQUEST_LIFETIME_MS == 7 * certificate.DAY_MS
    assert "answered within seven days" in DOCUMENT
    assert f"The link is `{invitation.LINK_PREFIX}`" in DOCUMENT


FIELDS: dict[str, Any] = {
    "DeviceClaim": certificate.DeviceClaim,
    "DeviceGrant (body of DEVICE_VOUCHING and DEVICE_APPROVAL)": proof.DeviceGrant,
    "Invitation (body of INVITATION)": invitation.Invitation,
    "ProofExtension": certificate.Proof,
    "StatementContent": statement._Content,
    "Statement": statement._Statement,
    "StatementSignature": statement._Signature,
}


def test_the_documents_structs_have_the_codes_fields_in_order() -> None:
    for name, kind in FIELDS.items():
        documented = [row[0] for row in table(name, "type", "meaning") if row[0] != "version"]
        assert documented == [field.name for field in fields(kind)], name
    request = [row[0] for row in table("CertificateRequest", "type", "meaning")]
    assert request[:-2] == [field.name for field in fields(enrolment.CertificateRequest)]
    link = {row[0] for row in table("InvitationLink", "type", "meaning")}
    assert link == {
        "version",
        "checksum",
        *(field.name for field in fields(invitation.InvitationLink)),
    }
