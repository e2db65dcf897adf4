"""How close the values lie to their laws, counted over all 2^32 words: ``python -m proof.accuracy``."""
