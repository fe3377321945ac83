"""Source, flow, transport and cache joined: one exchanger is one identity with its cache."""
