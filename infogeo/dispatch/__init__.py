"""Which formula serves which family: each module registers one kind of family with the measures and operations."""
