"""Files in conversations: what a message says of one, and getting it there and back."""

from __future__ import annotations

import asyncio
import mimetypes
from pathlib import Path

from client.engine import Engine
from client.errors import GoneError, KeptInsideError, NotSaidError
from client.transfer import Progress, Transfers, save
from crypto.attachment import AttachmentRef
from protocol.content import Attachment
from protocol.identifiers import ConversationId
from protocol.policy import Action

NOT_YET = "the conversation is being set up, and takes no file before it is"

UNKNOWN_TYPE = "application/octet-stream"
"""What a file is taken for whose name tells nothing."""


class Attaching:
    """Sends and fetches the files of one device."""

    def __init__(self, engine: Engine, files: Path) -> None:
        """Prepare; ``files`` is where encrypted streams are kept."""
        self._engine = engine
        self._transfers = Transfers(engine.address, files=files, token=engine.token)

    async def upload(
        self, conversation: ConversationId, path: Path, *, caption: str, on_progress: Progress
    ) -> Attachment:
        """Return what a message says of a file, once all of it is at the relay.

        Raises:
            TooLargeError: It is larger than an attachment may be.
            FullError: There is no room for the encrypted copy.
            FailedError: The disk fails.
            OSError: The file cannot be read.
            NotAllowedError: The policy does not let this person send files, or anything here.
            ForbiddenError: The relay does not let this device attach files.
            NotSaidError: The relay does not know this device in the conversation.
        """
        self._engine.rights.check_attaching(conversation)
        sealed = await self._transfers.seal(path, on_progress=on_progress)
        try:
            blob = await self._transfers.upload(
                sealed.stream, conversation, on_progress=on_progress
            )
        except GoneError:
            # Nothing of a file is gone: it is begun here, and its first Commit has no receipt yet.
            raise NotSaidError(NOT_YET) from None
        finally:
            await self._transfers.discard(sealed.stream)
        return Attachment(
            blob=blob,
            ref=sealed.ref.encode(),
            name=path.name,
            media_type=mimetypes.guess_type(path.name)[0] or UNKNOWN_TYPE,
            caption=caption,
        )

    async def fetch(self, attachment: Attachment, to_path: Path, *, on_progress: Progress) -> None:
        """Write the file of a message.

        Raises:
            GoneError: The relay has it no more.
            AlteredError: What the relay has is not what the message says.
            NotAllowedError: The policy does not let this person have files.
            KeptInsideError: It does not let them save files.
            ForbiddenError: The relay does not let this device have it.
            FullError: There is no room for it.
            FailedError: The disk fails.
        """
        rights = self._engine.rights
        rights.check(Action.VIEW, Action.RECEIVE, Action.ATTACH)
        if not rights.may(Action.SAVE):
            raise KeptInsideError
        ref = AttachmentRef.decode(attachment.ref)
        stream = await self._transfers.download(attachment.blob, ref, on_progress=on_progress)
        await asyncio.to_thread(save, ref, stream, to_path)

    def close(self) -> None:
        """Let go of the connection."""
        self._transfers.close()
