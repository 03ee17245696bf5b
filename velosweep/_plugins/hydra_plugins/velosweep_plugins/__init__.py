"""Thin shims: Hydra only accepts plugins under this name."""
