"""The stage that brings data here and checks it."""
