"""The ways to send mail; each is a `delivery.Transport`."""
