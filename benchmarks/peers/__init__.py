"""How do the peers do the same? Each function is the twin of one beside kompyct's cases."""
