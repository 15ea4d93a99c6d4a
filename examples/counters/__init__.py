"""Workers that count words, and a tally that keeps them all up to date.

`python -m examples.counters` shows it. `counters.py` has the port and the components.
"""
