"""Knows what outlives a process: leases in a ledger, owners, the queue for slots, the reaper and the guardian.
Must not know sessions as people use them (`_session`), nor import anything when it is imported itself.

Everything below this folder runs in the guardian too, which has the standard library alone.
"""
