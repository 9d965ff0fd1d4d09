"""What every member runs: a clinician's device, and the archive's recorder."""
