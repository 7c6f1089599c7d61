"""Orders. ``declared``: what others may know · ``sales``: what they may ask · ``placing``: the API · ``partners``: webhooks."""
