"""Functions with rules of their own: custom derivatives, checkpointing."""
