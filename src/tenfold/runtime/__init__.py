"""Running an app: servers, signals, drain."""
