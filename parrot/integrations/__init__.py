"""Parrot in VLMEvalKit and lmms-eval: its models behind their interfaces, its predictions in their files."""
