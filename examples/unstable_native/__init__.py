"""A counter that crashes natively, is killed from outside, and goes on from its last snapshot.

`python -m examples.unstable_native` shows it. `counter.py` is the component, with a recovery
function like that of the unstable counter; `__main__.py` is what is done to it.
"""
