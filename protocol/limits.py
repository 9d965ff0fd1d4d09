"""Every limit that two programs must agree on: one constant each, with its unit and its reason.

``LIMITS`` is the registry that ``docs/protocol.md`` is compared with.
"""

from __future__ import annotations

from dataclasses import dataclass

from crypto.attachment_layout import STREAM_SIZES


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """One limit: what is counted, how far, and why no further."""

    name: str
    value: int
    unit: str
    reason: str


LIMITS: dict[str, Limit] = {}


def _limit(name: str, value: int, unit: str, reason: str) -> int:
    LIMITS[name] = Limit(name=name, value=value, unit=unit, reason=reason)
    return value


MESSAGE_BYTES = _limit(
    "MESSAGE_BYTES",
    72 * 1024,
    "bytes",
    "the largest padded text is 64 KiB, and MLS and its header go around it; more is an attachment",
)
COMMIT_BYTES = _limit(
    "COMMIT_BYTES",
    1024 * 1024,
    "bytes",
    "a Commit that adds a thousand devices holds a thousand key packages",
)
WELCOME_BYTES = _limit(
    "WELCOME_BYTES",
    2 * 1024 * 1024,
    "bytes",
    "a Welcome to a thousand devices holds a path secret for each, and the tree",
)
FRAME_BYTES = _limit(
    "FRAME_BYTES",
    COMMIT_BYTES + WELCOME_BYTES + 4096,
    "bytes",
    "the largest frame is a Commit with its Welcome",
)
STATEMENT_BYTES = _limit(
    "STATEMENT_BYTES",
    32 * 1024,
    "bytes",
    "a signed statement holds one command and the certificates that prove it",
)
VERIFIER_KEY_CHARACTERS = _limit(
    "VERIFIER_KEY_CHARACTERS",
    256,
    "characters",
    "a verifier key is its name, an id of 8 and a key of 44; a name is an address",
)
WITNESS_KEYS = _limit(
    "WITNESS_KEYS", 16, "keys", "a device verifies a cosignature of each that a log policy names"
)
OFFICER_WITNESSES = _limit(
    "OFFICER_WITNESSES", 64, "keys", "an organisation's officers have a few devices each"
)
STANDING_BYTES = _limit(
    "STANDING_BYTES",
    256 * 1024,
    "bytes",
    "an answer of statements stays well within one frame; more are asked for in parts",
)
IN_FLIGHT_MESSAGES = _limit(
    "IN_FLIGHT_MESSAGES",
    128,
    "messages",
    "a device sends no further ahead of its oldest unanswered message; repeats are known by it",
)
IN_FLIGHT_REQUESTS = _limit(
    "IN_FLIGHT_REQUESTS",
    32,
    "requests",
    "each pending request holds memory at the relay",
)
MEMBERS = _limit(
    "MEMBERS",
    4096,
    "devices",
    "a Commit's change of cursors and the ratchet tree stay within one frame",
)
OWNERS = _limit("OWNERS", 32, "users", "owners are named in every member's GroupContext")
GUESTS = _limit(
    "GUESTS",
    16,
    "people",
    "emergency access to one conversation at once: each guest's statement stands in its context",
)
LOOKUP_DEVICES = _limit(
    "LOOKUP_DEVICES",
    256,
    "devices",
    "an answer of certificates stays within one frame; longer lists are asked in parts",
)
KEY_PACKAGE_BYTES = _limit(
    "KEY_PACKAGE_BYTES",
    16 * 1024,
    "bytes",
    "a key package holds one leaf with its certificate chain",
)
KEY_PACKAGES = _limit(
    "KEY_PACKAGES",
    100,
    "key packages",
    "a device is added to fewer conversations than this between two visits",
)
DISPLAY_NAME_BYTES = _limit(
    "DISPLAY_NAME_BYTES", 128, "bytes", "a full name with its titles, on one line of a small screen"
)
WARD_BYTES = _limit("WARD_BYTES", 64, "bytes", "a ward or department, beside the name")
PASSWORD_MIN = _limit(
    "PASSWORD_MIN",
    12,
    "characters",
    "NIST SP 800-63B-4 asks eight beside a second factor; clinical buyers ask twelve",
)
PASSWORD_MAX = _limit(
    "PASSWORD_MAX", 256, "characters", "Argon2id hashes its input once; longer ones are only load"
)
ATTACHMENT_BYTES = _limit(
    "ATTACHMENT_BYTES",
    STREAM_SIZES[-2],
    "bytes",
    "the stream of a 256 MiB file: an imaging series or a long video; larger ones belong elsewhere",
)
ATTACHMENT_CHUNK_BYTES = _limit(
    "ATTACHMENT_CHUNK_BYTES",
    1024 * 1024,
    "bytes",
    "one request of an upload is held in memory once",
)
CLOCK_SKEW_MS = _limit(
    "CLOCK_SKEW_MS",
    5 * 60 * 1000,
    "milliseconds",
    "a signed command older or newer than this is asked for again",
)
TIME_MAX_MS = _limit(
    "TIME_MAX_MS",
    4_102_444_800_000,
    "milliseconds",
    "since the epoch, the year 2100: a device shows whatever time a relay tells it",
)
SILENT_CONNECTION_S = _limit(
    "SILENT_CONNECTION_S",
    10,
    "seconds",
    "a socket that has not proved a device by then is closed",
)
PING_S = _limit(
    "PING_S",
    20,
    "seconds",
    "a dead peer is noticed within two of them, and no NAT forgets the path",
)
RECEIPT_SILENCE_MS = _limit(
    "RECEIPT_SILENCE_MS",
    10 * 1000,
    "milliseconds",
    "after this silence of the recorder another user's member may sign the receipt",
)
ENTRY_EXPIRY_MS = _limit(
    "ENTRY_EXPIRY_MS",
    30 * 24 * 3600 * 1000,
    "milliseconds",
    "the default: what nobody fetched by then is gone, and its device rejoins",
)
