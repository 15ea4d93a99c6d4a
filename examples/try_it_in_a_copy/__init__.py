"""Try something dangerous in a copy of the process, and fall back from it."""
