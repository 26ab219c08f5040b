"""The mini scale's backbones, made once by a maintainer (``python -m parrot.backbones``) and shipped as an input."""
