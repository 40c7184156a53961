"""The usage ledger: metering events → priced spans. The only source of truth besides the cluster's objects.

Every pod that we make carries a finalizer that is removed only after its events are committed, so none escapes the
bill; prices are frozen on the event; spans can be derived from events again at any time ("replay my bill").
"""
