"""The RPyC protocol, pure: bytes and the time go in; values, events and bytes come out."""
