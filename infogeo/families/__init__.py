"""Families of probability distributions: frozen, batched dataclasses."""
