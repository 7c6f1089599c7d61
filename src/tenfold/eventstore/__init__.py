"""Event sourcing: streams of events, aggregates as plain functions, projections and followers of everything."""
