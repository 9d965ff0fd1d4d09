"""How a process of the archive forgets: by settings that hold from its first allocation on."""

from __future__ import annotations

FORGETTING = {
    "MALLOC_PERTURB_": "165",
    "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0",
    "PYTHONMALLOC": "malloc",
}
"""Settings by which freed memory is overwritten: what was opened to be verified, and the keys of
segments, do not stay in it. glibc overwrites; Python's own allocator, which keeps what is shorter
than half a kilobyte as it was until it is used again, is left out. It costs a third more time.
"""
