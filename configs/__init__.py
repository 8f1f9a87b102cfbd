"""Example configs that run, and the generated JSON schema for editors."""
