"""Harnesses that hurt components in processes of their own, and look at what became of them.

Run one by `python -m tests.harness.process NAME`; `tests/test_process_harness.py` runs a short
form of each. Each must catch bugs that are planted in the backend, see `planted`.

- `soak`: random victims and signals over a system that mixes backends; a ledger is the oracle.
- `orphans`: SIGKILL of the system's own process, whatever its children do.
- `zygotes`: SIGKILL of the process that makes the children.
- `midsave`: SIGKILL of a child that saves all the time.
- `races`: a death beside every other thing that can happen to a component.
- `crowd`: SIGKILL of the zygote of very many children, which all come back at once.
"""
