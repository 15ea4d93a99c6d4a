"""Numbers put into batches: by size, by time, and when somebody asks for them.

`python -m examples.buncher` shows it. `buncher.py` has the port, and the component that provides
it; `reader.py` one that requires it.
"""
