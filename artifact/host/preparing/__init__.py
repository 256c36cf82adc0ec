"""What belongs to a prepared server, one module a kind: each says what is so and what is left."""
