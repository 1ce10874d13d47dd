"""The gRPC shells of the controller, one service a module."""
