"""The durable queue: the message table, its worker, and what people do with it (``admin``)."""
