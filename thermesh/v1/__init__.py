"""Generated messages and stubs of the contract in `protos/thermesh/v1`."""
