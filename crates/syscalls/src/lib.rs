//! The system-call table, and what is made from it: filter, marshaller, trace text, documentation.
