"""Whole models: from names to keys, from initializers to laws, to one batched fill for each device."""
