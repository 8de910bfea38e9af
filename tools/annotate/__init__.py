"""Label data by hand: a page in the browser, a local server, label files beside the pictures."""
