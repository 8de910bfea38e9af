"""Pages on which a person labels data: a local server, a browser, files beside the pictures."""
