"""Credentials of the accounts that the seed makes, in development and nowhere else."""

ADMIN = "admin@shop.example"
ADMIN_PASSWORD = "correct-horse-battery-admin"
CUSTOMER = "ada@shop.example"
CUSTOMER_PASSWORD = "correct-horse-battery-ada"
