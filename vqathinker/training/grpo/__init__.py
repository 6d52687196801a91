"""GRPO on videos over TRL: settings, packed groups, the trainer."""
