"""Compare the original study's five networks with ours: `edge-tools color study`."""
