"""Brokers, one file each; the file's name is the scheme of ``events.url``."""
