"""Protocol cores without I/O, and one socket file (`net.udp`)."""
