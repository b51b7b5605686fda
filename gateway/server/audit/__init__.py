"""The audit log: an append-only, hash-chained record of what was done, by whom, and of what was refused."""

from gateway.server.audit.files import Mark
from gateway.server.audit.log import AuditLog
from gateway.server.audit.record import Entry, Record, shown_arguments
from gateway.server.audit.verify import Finding, Report, last_records, verify

__all__ = ["AuditLog", "Entry", "Finding", "Mark", "Record", "Report", "last_records", "shown_arguments", "verify"]
