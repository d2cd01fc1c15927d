"""The console in a real browser: Debian's Chromium, driven as a person would drive it."""
