//! The frames and messages that deputy and host exchange.
