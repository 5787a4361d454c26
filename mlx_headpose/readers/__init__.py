"""Parsers of untrusted files."""
