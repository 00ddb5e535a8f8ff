"""Any bytes, whole or one at a time, end in a valid parse or the documented refusal, and no invariant breaks.

``docs/design/testing.md`` says how to run the targets and what to do with a finding.
"""
