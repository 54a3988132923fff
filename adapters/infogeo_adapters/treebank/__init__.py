"""Word graphs of a model against the trees of a treebank: reading, graph families, running, choosing, reporting."""
