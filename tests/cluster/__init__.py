"""Real servers and clusters, several engines, and what becomes of decisions when servers, slots and processes go."""
