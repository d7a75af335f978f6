"""What a memory must leave as it found it: watched around every call and every check, and put right."""
