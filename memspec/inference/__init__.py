"""What a memory is seen to do, promise by promise: found by asking the suites' own checks of it."""
