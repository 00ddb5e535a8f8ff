"""More processes than one: a supervisor, the workers it watches, and what they say to each other."""
