"""Orders. ``declared``: what other services may know · ``sales``: what they may ask · ``placing``: the API."""
