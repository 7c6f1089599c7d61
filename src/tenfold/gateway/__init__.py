"""The gateway role: one public entry in front of services, with routes, limits, canaries and one API document."""
