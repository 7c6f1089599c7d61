"""An instance under load, simulated under a seed: an event loop, a pool of connections, waits outside."""
