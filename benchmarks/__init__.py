"""How fast is kompyct beside its peers?

`python -m benchmarks` measures kompyct and the named peers in turn, prints a table with ratios
and goals, and can write it into `docs/performance.md`. No timing is asserted anywhere.

A *case* is one measurement, made in a process of its own: `tell/pool`, `tell/pykka`. Cases of the
same experiment (`tell`) are run one after the other, that several times over, so that what
disturbs the machine disturbs all of them; the median of the repeats counts. A *row* of the table
compares one quantity of kompyct's cases with that of the peers'.

Each process is pinned to one CPU, unless told otherwise: a hand-off between threads costs 5 µs on
one CPU and 70 to 85 µs when it has to wake another, so that unpinned latencies have two modes.
"""
