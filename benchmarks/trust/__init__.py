"""What a control loop in production has to withstand: attacks, crashes, stale steering."""
