"""Transformers in, arrays out: loading, capture, alignment with words, attention, read-out."""
