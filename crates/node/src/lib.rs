//! The node daemon: arranges moves, answers the tools, keeps the records.
