"""Initializers: each checks its arguments, finds its law, and fills its tensor; each declares its law."""
