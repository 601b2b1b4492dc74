"""What runs inside the sandbox: loaded as code there, never imported by the rest of the package."""
