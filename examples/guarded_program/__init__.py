"""A measurement whose native driver crashes: what was measured is rescued."""
