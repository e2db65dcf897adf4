"""Backends: each fills tensors of some devices with the bits of the value contract, and says why where it cannot."""
