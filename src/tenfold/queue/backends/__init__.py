"""One file per database that can hold the message table."""
