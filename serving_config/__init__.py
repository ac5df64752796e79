"""What is served, and how: typed settings read from YAML. Imports pydantic and yaml only."""
