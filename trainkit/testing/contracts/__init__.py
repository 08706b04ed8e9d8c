"""The contracts, a module for each kind; `every` holds what components of all kinds keep."""
