"""Every parser of bytes from outside, fed with what coverage leads to: ``make fuzz``."""
