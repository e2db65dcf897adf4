"""What needs no device: laws, recipes and their tables, keys, fans, shards, plans, and the checks of arguments."""
