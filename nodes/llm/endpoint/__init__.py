"""OpenAI-compatible endpoint: settings, client, errors, rate limit, budget and prices."""
