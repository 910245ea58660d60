"""How requests are read: their body, its values in the types that options have, the jobs that they ask for, and who sends them."""
