"""What a video will cost, and the windows in which it will be made, before and while it is made."""
