"""Harnesses: programs that look for faults which ordinary tests do not meet.

`explore` runs two threads of kompyct's core in every order that two forced switches can give,
`mutants` plants bugs on purpose to show that `explore` would find them.
"""
