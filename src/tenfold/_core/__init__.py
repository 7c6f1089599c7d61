"""What every layer stands on: time, context, settings, dependencies, lifecycle."""
