"""Manifolds of distributions, one module each with ``distance, exp, log, geodesic, norm`` on plain arrays."""
