"""Systems: format, sessions, labels, policy; one TOML file each."""
