"""What needs no device: laws, recipes and their tables, keys, fans, shards, plans, modes, and the checks of arguments."""
