"""Laws: cases, driven memories, transcripts, and random histories."""
