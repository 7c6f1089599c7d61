"""Span exporters, one file per URL scheme."""
