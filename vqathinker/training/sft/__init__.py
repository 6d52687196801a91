"""Supervised training on videos over TRL."""
