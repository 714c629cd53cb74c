//! Stored formats of earlier versions must stay readable; the workspace keeps its shape.
