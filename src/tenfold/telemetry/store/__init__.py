"""What telemetry the app keeps by itself: requests, jobs, traces, metrics and log events in a file of their own."""
