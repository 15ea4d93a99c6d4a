"""Harnesses: programs that look for faults which ordinary tests do not meet.

`explore` runs two threads of kompyct's core in every order that two forced switches can give,
`mutants` plants bugs on purpose to show that `explore` would find them.

How `explore` is made, each module above those it needs: `explore` (the command line), `scenarios`
(all of `scenarios_*`), `world` (what is around a cell), `explorer` (which plans are tried),
`stage` (how a plan makes two threads switch), `opcodes` (where), `stand_ins` (backends).
"""
