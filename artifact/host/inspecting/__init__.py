"""What is found out about a server and a site without changing anything."""
