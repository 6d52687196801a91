"""Checkpoints on disk: where they lie, how they are read, converted, put together and merged.

`folders` and `storage` know no model; the others build on `vqathinker.model`.
"""
