"""Who is asking, and what they may do: principals, policies, passwords, tokens, sessions, API keys, accounts."""
