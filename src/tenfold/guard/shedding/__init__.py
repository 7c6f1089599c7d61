"""How many requests an instance may run at a time, and who waits or goes when it is full. Pure: no clock, no I/O."""
