"""The mini scale's backbones, made once by a maintainer (``python -m parrot.mini.backbones``) and shipped."""
