"""Where idempotency keys live; one file per store."""
