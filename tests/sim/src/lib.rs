//! Seeded simulation of runs with faults, checked against the laws.
