"""The roles of a visit: one file and one short async function each."""
