"""Capacities of channels: discrete, Gaussian, and the layers and heads of a model seen as such."""
