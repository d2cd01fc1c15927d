"""The pages, one module each: what is asked of the desk, and which template shows it."""
