//! One test for each way in which timers are known to go wrong.
