"""On call: who it is, how a page escalates, whom a message disturbs. Pure: time is a parameter."""
