"""What assets use of the outside: the registry and the serving platform."""
