//! What a process is made of, as data: registers, maps, signals; and the pure rules about moving it.
