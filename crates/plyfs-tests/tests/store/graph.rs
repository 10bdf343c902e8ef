//! graphtest.
