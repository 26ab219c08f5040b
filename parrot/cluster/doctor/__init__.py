"""`parrot doctor`: find problems before a run starts. Nothing here imports torch or changes any file."""
