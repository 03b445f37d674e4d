"""Roles of a visit: one file and one short async function for each."""
