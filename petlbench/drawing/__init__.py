"""Generated pictures: the primitives, and the images that the embedded suites and the pre-training draw with them."""
