"""What the backend says about itself: logs, metrics, traces, health, and the listener that shows them."""
