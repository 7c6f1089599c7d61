"""Uploads. ``pictures``: the API and its jobs · ``thumbnails``: the work with pixels."""
