"""A weather station: a small service written as a supervision tree.

`python -m examples.weather_station` shows it. `tree.py` says who depends on whom, `parts.py` what
they do.
"""
