"""Credentials of the accounts that the seed makes, and of a payment provider to play with; in development only."""

ADMIN = "admin@shop.example"
ADMIN_PASSWORD = "correct-horse-battery-admin"
CUSTOMER = "ada@shop.example"
CUSTOMER_PASSWORD = "correct-horse-battery-ada"
PAYMENT_SECRET = "whsec_dGhlIHNob3AncyBkZW1vIHBheW1lbnQgc2VjcmV0"
