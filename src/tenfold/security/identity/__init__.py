"""Who a service is to the others: its name, its keys, the tokens and certificates that prove it, and whom it may call."""
