//! A runbook, an inventory and parameters become one immutable plan.
