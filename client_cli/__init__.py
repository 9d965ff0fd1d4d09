"""The terminal program and the scriptable commands: a face over ``client``."""
