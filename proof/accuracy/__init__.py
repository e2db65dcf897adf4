"""How close the values lie to their laws, counted over all words: `fastinit check --full`."""
