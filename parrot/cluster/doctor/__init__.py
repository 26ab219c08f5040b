"""`parrot doctor`: what would stop a run, found before it starts. Nothing here imports torch or changes anything."""
