"""A counter that overflows, faults, and goes on from its last snapshot.

`python -m examples.unstable_counter` shows it. `counter.py` is the program, `careful.py` the
remedy for a snapshot that leads into the same fault again and again.
"""
