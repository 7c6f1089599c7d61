"""Sell a real ledger through the shop's public API, then compare: ``python -m shop.replay LEDGER.csv``."""
