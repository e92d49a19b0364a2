"""Adapters to what other programs use, each behind an extra of its own."""
