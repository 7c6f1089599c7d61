"""One module per URL scheme; modules that start with an underscore belong to the one they are named after."""
