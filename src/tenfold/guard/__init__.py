"""What stands between a request and its work: idempotency keys, admission."""
