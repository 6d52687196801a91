"""Memory and time of a run before it starts, by arithmetic; torch only where sizes have to be measured."""
