"""Mutual information estimated from samples."""
