"""What proxies say: fields, headers, and whom to trust."""
