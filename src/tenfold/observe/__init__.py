"""What other monitoring systems get: rules, dashboards, routes, templates and probes, generated from the app.

``tenfold observe`` prints them. Everything here is text made of declarations; nothing here connects to anything but
:mod:`tenfold.observe.probe`, which asks one operations listener.
"""
