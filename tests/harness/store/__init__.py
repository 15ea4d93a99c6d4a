"""Harnesses that hurt a store in every way a machine can, and look at what it says afterwards.

Run one by `python -m tests.harness.store NAME`; `tests/test_store_harness.py` runs a short form
of each. Each works on any `Subject`, and each must catch bugs that are planted in the store.

- `kill`: SIGKILL at every call on the operating system, and once more during the reopening.
- `errors`: every such call fails once, in each of several ways.
- `strace-kill`, `strace-errors`: the same, done to the real system calls.
- `model`: every state of the files that a power cut may leave, by a model of file systems.
- `power`: power cuts on a real file system.
- `space`: no space, no handles, no permission to write.
- `bad`: files that are damaged, or were never written by the store.
"""
