"""What a flow will do and what deploying comes to, as data, and how both are told."""
