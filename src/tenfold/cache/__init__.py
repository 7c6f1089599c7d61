"""A cache with single flight, tags and invalidation that never loses to a slow load."""
