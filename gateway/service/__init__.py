"""What a peer may reach: services, exposure tables, the policy and the handlers."""
