"""Tenfold inside other frameworks, other frameworks inside Tenfold, and pieces of it on their own.

The pages of these modules are docs/guides/mounting.md; tests/integration/test_mounting.py sends them requests.
"""
