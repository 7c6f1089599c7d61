"""One module per kind of database; the URL of the database finds it."""
