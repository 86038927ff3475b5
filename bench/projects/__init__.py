"""The smallest projects in which the peers run: each file is loaded by a process of its own, never by the benchmark."""
