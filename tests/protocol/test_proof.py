"""What a device signs to prove itself."""

from __future__ import annotations

from msgspec.structs import replace

from protocol.frames import Challenge, Hello
from protocol.proof import connection_proof, device_proof

HELLO = Hello(
    versions=(1,),
    organisation=bytes(32),
    device="ann/phone",
    nonce=bytes(32),
    certificate=b"",
    request=b"",
)
CHALLENGE = Challenge(version=1, nonce=bytes(32), pin=bytes(32))


def test_the_proofs_of_the_two_keys_are_never_the_same() -> None:
    assert connection_proof(HELLO, CHALLENGE) != device_proof(HELLO, CHALLENGE)


def test_a_proof_is_bound_to_everything_that_was_said() -> None:
    other = bytes(31) + b"\x01"
    variants = [
        (replace(HELLO, versions=(1, 2)), CHALLENGE),
        (replace(HELLO, organisation=other), CHALLENGE),
        (replace(HELLO, device="ann/other"), CHALLENGE),
        (replace(HELLO, nonce=other), CHALLENGE),
        (replace(HELLO, certificate=b"x"), CHALLENGE),
        (replace(HELLO, request=b"x"), CHALLENGE),
        (HELLO, replace(CHALLENGE, version=2)),
        (HELLO, replace(CHALLENGE, nonce=other)),
        (HELLO, replace(CHALLENGE, pin=other)),
    ]
    for prove in (connection_proof, device_proof):
        signed = {prove(hello, challenge) for hello, challenge in variants}
        assert len(signed) == len(variants)
        assert prove(HELLO, CHALLENGE) not in signed
