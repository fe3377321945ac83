"""One cloud at set-up time: the trust documents that decide who may become what, read and evaluated. Pure."""
