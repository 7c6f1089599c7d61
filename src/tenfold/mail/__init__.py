"""Mail: composed safely, sent by SMTP, or kept in a folder during development."""
