"""What a queue keeps on disk: the files of each job, and the index of all, which is rebuilt from them."""
