"""Schemes: which initializer each parameter of a model gets, by module type and by name."""
