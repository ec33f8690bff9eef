"""The server: composition root, the tick loop, replication, sessions and the web edge."""
