"""Where cached values live; one file per store."""
