"""Settings, catalogues and runs, and what makes a result out of date."""
