"""One cloud at run time: the requests of its token service, what its answers mean, and its config documents.

Pure: every function takes ``now`` and what it needs as arguments, and network work is a flow
(:mod:`wif.core.flow`). The modules of two clouds never import each other.
"""
