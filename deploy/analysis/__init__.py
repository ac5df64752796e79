"""What decides between on and back: sequential tests on what live versions have counted."""
