"""What a device signs beside messages, and how that reaches the relay's logs.

An administrator's act, a person's own request, an answer to a page: each is a statement that others
believe for its signature alone. Nothing of it counts here either before it comes back in its log.
"""

from __future__ import annotations

from client.engine import Engine
from crypto.statement_types import Purpose, StatementType
from protocol import frames
from protocol.identifiers import CONTROL_LOG, ConversationId, LogId, conversation_log
from protocol.policy import Action

REQUEST_LIVES_MS = 60 * 60 * 1000
"""How long a person's own request counts, in ms: it is handed in at once, or not at all."""


class Statements:
    """Statements of one open device: ``Device.statements``."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    # -- signing -------------------------------------------------------------------------------

    def sign(
        self, kind: StatementType, body: bytes, purpose: Purpose, *, lifetime_ms: int | None = None
    ) -> bytes:
        """Return a statement with this device's signature; it lives as long as its type may."""
        return self._engine.identity.sign(
            kind, body, purpose, now_ms=self._engine.clock(), lifetime_ms=lifetime_ms
        )

    async def countersign(self, statement: bytes, purpose: Purpose) -> bytes:
        """Return a statement with this device's signature after those that it has.

        Whoever signed before may have had their certificate renewed since it was last seen here:
        one that is not known is asked for.

        Raises:
            NotConnectedError: A signer is not known here, and there is no connection.
            DecodeError: The bytes are no statement.
            InvalidError: It breaks a rule, which is named, or is complete.
            VerificationError: A signature does not verify.
        """
        engine = self._engine
        await engine.book.find_signers(statement, engine.ask, now_ms=engine.clock())
        return engine.identity.countersign(
            statement, purpose, book=engine.book, now_ms=engine.clock()
        )

    # -- handing in ----------------------------------------------------------------------------

    async def authenticate(self, password: str, code: str) -> None:
        """Prove password and one-time code, as administrators' and officers' acts ask.

        Raises:
            NotConnectedError: There is no connection.
            RefusedError: One is wrong, or it is too early for another try.
        """
        await self._engine.authenticate(password, code)

    async def submit(self, statement: bytes) -> None:
        """Hand an administrator's act in for the control log.

        Raises:
            NotConnectedError: There is no connection.
            NotAllowedError: The policy does not let this person.
            RefusedError: The relay does not take it.
        """
        self._engine.rights.check(Action.COMMAND)
        await self._engine.ask(lambda ref: frames.Command(ref=ref, statement=statement))

    async def request(
        self, body: bytes, *, kind: StatementType = StatementType.DEVICE_REQUEST
    ) -> None:
        """Sign a request of this person's own, and leave it in the control log.

        Args:
            body: What is asked.
            kind: The statement's type: also ``SUSPENSION``, of this person's own devices.

        Raises:
            NotConnectedError: There is no connection.
            RefusedError: The relay does not take it.
        """
        statement = self.sign(kind, body, Purpose.DEVICE, lifetime_ms=REQUEST_LIVES_MS)
        await self._post(CONTROL_LOG, statement)

    async def post(self, conversation: ConversationId, statement: bytes) -> None:
        """Post a statement to a conversation's log.

        Raises:
            NotConnectedError: There is no connection.
            RefusedError: The relay does not take it.
        """
        await self._post(conversation_log(conversation), statement)

    async def _post(self, log: LogId, statement: bytes) -> None:
        await self._engine.ask(lambda ref: frames.Post(ref=ref, log=log, statement=statement))
