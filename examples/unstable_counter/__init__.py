"""A counter that overflows, faults, and goes on from its last snapshot.

`python -m examples.unstable_counter` runs it; `counter.py` is the program, `careful.py` the remedy.
"""
