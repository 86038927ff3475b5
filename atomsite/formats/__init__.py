"""How dates look in the admin."""
