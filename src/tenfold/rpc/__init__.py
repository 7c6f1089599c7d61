"""Calls between services through the typed functions themselves."""
