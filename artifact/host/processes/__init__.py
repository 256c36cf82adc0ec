"""The processes of a site: started, asked, changed without losing a request."""
