"""The original study's five networks beside ours, on the same data: `edge-tools color study`."""
