"""What makes the database slow, found while the app runs: slow statements, repeated ones, scans, useless indexes."""
