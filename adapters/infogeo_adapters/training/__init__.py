"""Troubleshooting training: measuring a model while it trains, keeping its history, and showing what is wrong."""
