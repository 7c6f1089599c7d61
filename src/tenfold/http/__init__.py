"""HTTP: operations compiled to endpoints, one ordered pipeline, ASGI and RSGI entries."""
