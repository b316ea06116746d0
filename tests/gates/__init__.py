"""What can be said of the kernels' speed without a GPU: their machine code, their shared memory, their occupancy."""
