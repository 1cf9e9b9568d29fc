"""What a system is: format, sessions, labels, policy; one TOML file each."""
