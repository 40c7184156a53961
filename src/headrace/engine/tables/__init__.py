"""What `kubectl get` prints: the server-side Table of each kind (Kubernetes API concepts, "Receiving resources as Tables").

Columns and cells of core kinds follow kubectl's own printers (Kubernetes v1.36 `pkg/printers/internalversion`), so that
people and scripts see what they know; all other kinds print their `additionalPrinterColumns`.
"""
