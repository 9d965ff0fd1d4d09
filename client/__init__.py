"""What every member runs: a clinician's device, and the archive's recorder."""

import logging

# Unless a program wants its events, none of them is printed between a command's lines.
logging.getLogger(__name__).addHandler(logging.NullHandler())
