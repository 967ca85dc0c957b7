"""Engines decide where and when runs happen; every engine starts the same worker."""
