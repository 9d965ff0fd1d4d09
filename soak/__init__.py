"""Hours of a hospital's traffic while things break: real processes, and an invariant after each."""
