"""An MCP server over the public API: tools for a model, which governance decides about as about any other request."""
