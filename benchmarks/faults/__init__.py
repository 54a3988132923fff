"""Faults injected into small transformers, to measure how often the diagnosis of infogeo finds them.

Run by ``benchmarks/training_faults.py``.
"""
