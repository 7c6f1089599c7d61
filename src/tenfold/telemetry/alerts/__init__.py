"""Alerts in the box, for who runs no monitoring system: rules, who is told, silences."""
