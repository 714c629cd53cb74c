//! The thin loop between the core and the world.
