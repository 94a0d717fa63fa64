"""The cache that never hurts: fast while Redis is up, free while it is down."""
